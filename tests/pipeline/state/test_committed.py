import pytest
from fake_run import RUN, failed, scored, write_slice

from pipeline.state.committed import IncompleteSlice, read_commits
from pipeline.state.run_state import RunState
from pipeline.state.state_file import DamagedState

CONTENT = [
    ("none", [scored("a", 1.0), failed("b")]),
    ("none", [scored(f"m{i}", float(i), "s3://line/x.tar") for i in range(5)]),
    ("none", []),
    ("none", [scored("c", 2.0)]),
]


@pytest.fixture
def state(tmp_path):
    write_slice(tmp_path, CONTENT, streams={1: 2})
    return RunState(str(tmp_path), RUN)


def test_commits_come_in_the_order_of_the_plan(state):
    found = list(read_commits(state, 0, 0, 4))
    assert [(commit.number, commit.footer.part, commit.rows.num_rows) for commit in found] == [
        (0, 0, 2),
        (1, 0, 2),
        (1, 1, 2),
        (1, 2, 1),
        (2, 0, 0),
        (3, 0, 1),
    ]
    assert [commit.number for commit in read_commits(state, 0, 2, 3)] == [2]
    assert found[0].rows["error"].to_pylist() == [None, "truncated"]


@pytest.mark.parametrize("unit, part", [(0, 0), (1, 0), (1, 1), (1, 2), (2, 0), (3, 0)])
def test_whatever_is_missing_is_found(state, unit, part):
    state.store.delete(state.commit_key(0, unit, part))
    with pytest.raises(IncompleteSlice, match=f"work unit {unit} of slice 0"):
        list(read_commits(state, 0, 0, 4))


def test_a_commit_with_fewer_images_than_planned(state, tmp_path):
    write_slice(tmp_path / "short", [("none", [scored("a", 1.0)])])
    short = RunState(str(tmp_path / "short"), RUN)
    state.store.put(state.commit_key(0, 0, 0), short.store.get(short.commit_key(0, 0, 0)))
    with pytest.raises(IncompleteSlice, match="1 of 2 images"):
        list(read_commits(state, 0, 0, 4))


@pytest.mark.parametrize("unit, part", [(0, 0), (1, 2)])
def test_a_damaged_commit_is_named(state, unit, part):
    key = state.commit_key(0, unit, part)
    whole = state.store.get(key)
    for damaged in (
        whole[:-20],
        b"",
        whole[:40] + b"\xff" * 9 + whole[49:],
        whole.replace(b"flowscore.device", b"flowscore.devise"),
    ):
        state.store.put(key, damaged)
        with pytest.raises(DamagedState, match=key):
            list(read_commits(state, 0, 0, 4))


def test_a_damaged_slice_is_named(state):
    key = state.slice_key(0)
    whole = state.store.get(key)
    for damaged in (whole[:-20], whole[:40] + b"\xff" * 9 + whole[49:]):
        state.store.put(key, damaged)
        with pytest.raises(DamagedState, match=key):
            list(read_commits(state, 0, 0, 4))
