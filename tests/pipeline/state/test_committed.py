import pytest
from fake_run import FIRST, MODEL, failed, scored, write_slice

from pipeline.state.committed import IncompleteSlice, read_commits
from pipeline.state.entries import read_slice
from pipeline.state.ledger import Ledger
from pipeline.state.state_file import DamagedState

CONTENT = [
    ("none", [scored("a", 1.0), failed("b")]),
    ("none", [scored(f"m{i}", float(i), "s3://line/x.tar") for i in range(5)]),
    ("none", []),
    ("none", [scored("c", 2.0)]),
]


@pytest.fixture
def ledger(tmp_path):
    write_slice(tmp_path, CONTENT, streams={1: 2})
    return Ledger(str(tmp_path), MODEL)


def test_commits_come_in_the_order_of_the_plan(ledger):
    found = list(read_commits(ledger, FIRST, 0, 4))
    assert [(commit.number, commit.footer.part, commit.rows.num_rows) for commit in found] == [
        (0, 0, 2),
        (1, 0, 2),
        (1, 1, 2),
        (1, 2, 1),
        (2, 0, 0),
        (3, 0, 1),
    ]
    assert [commit.number for commit in read_commits(ledger, FIRST, 2, 3)] == [2]
    assert found[0].rows["error"].to_pylist() == [None, "truncated"]


@pytest.mark.parametrize("unit, part", [(0, 0), (1, 0), (1, 1), (1, 2), (2, 0), (3, 0)])
def test_whatever_is_missing_is_found(ledger, unit, part):
    ledger.store.delete(ledger.commit_key(FIRST, unit, part))
    with pytest.raises(IncompleteSlice, match=f"work unit {unit} of slice {FIRST}"):
        list(read_commits(ledger, FIRST, 0, 4))


def test_a_commit_with_fewer_images_than_planned(ledger, tmp_path):
    write_slice(tmp_path / "short", [("none", [scored("a", 1.0)])])
    short = Ledger(str(tmp_path / "short"), MODEL)
    ledger.store.put(ledger.commit_key(FIRST, 0, 0), short.store.get(short.commit_key(FIRST, 0, 0)))
    with pytest.raises(IncompleteSlice, match="1 of 2 images"):
        list(read_commits(ledger, FIRST, 0, 4))


@pytest.mark.parametrize("unit, part", [(0, 0), (1, 2)])
def test_a_damaged_commit_is_named(ledger, unit, part):
    key = ledger.commit_key(FIRST, unit, part)
    whole = ledger.store.get(key)
    for damaged in (
        whole[:-20],
        b"",
        whole[:40] + b"\xff" * 9 + whole[49:],
        whole.replace(b"flowscore.device", b"flowscore.devise"),
    ):
        ledger.store.put(key, damaged)
        with pytest.raises(DamagedState, match=key):
            list(read_commits(ledger, FIRST, 0, 4))


def test_a_damaged_slice_is_named(ledger):
    key = ledger.part_key(read_slice(ledger, FIRST).parts[0].name, "units")
    whole = ledger.store.get(key)
    for damaged in (whole[:-20], whole[:40] + b"\xff" * 9 + whole[49:]):
        ledger.store.put(key, damaged)
        with pytest.raises(DamagedState, match=key):
            list(read_commits(ledger, FIRST, 0, 4))
