"""A damaged object of a slice is never read as another one: it gives what was written, or one error that names it."""

import pytest
from fake_run import FIRST, MODEL, failed, scored, write_slice
from hypothesis import given
from hypothesis import strategies as st
from mutations import fuzz, mutated

from pipeline.state import slices
from pipeline.state.commits import members_before, pending
from pipeline.state.committed import IncompleteSlice, read_commits
from pipeline.state.entries import read_slice
from pipeline.state.ledger import Ledger
from pipeline.state.state_file import DamagedState
from pipeline.state.tally import add_up, read_failed, read_tally
from pipeline.storage.store import open_store

CONTENT = [
    ("2026-01-01", [scored("a", 1.0), failed("b")]),
    ("2026-01-01", [scored(f"m{number}", float(number), "s3://line/x.tar") for number in range(5)]),
    ("2026-01-02", []),
    ("2026-01-02", [scored("c", 2.0, regions=None)]),
]


def read_all(ledger: Ledger) -> list[object]:
    units = list(slices.units(ledger, FIRST))
    objects = [table.to_pylist() for table in slices.objects(ledger, FIRST)]
    work = list(pending(ledger, FIRST, slices.outlines(ledger, FIRST)))
    seen = [members_before(ledger, FIRST, item) for item in work if item.part]
    commits = [(commit.number, commit.footer, commit.rows.to_pylist()) for commit in read_commits(ledger, FIRST, 0, 4)]
    return [units, objects, work, seen, commits, read_tally(ledger, FIRST), read_failed(ledger, FIRST).to_pylist()]


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    place = tmp_path_factory.mktemp("state")
    ledger = Ledger(str(place), MODEL)
    assert write_slice(place, CONTENT, streams={1: 2}) == FIRST
    add_up(ledger, FIRST, read_slice(ledger, FIRST))
    return ledger


@pytest.fixture(scope="module")
def files(state):
    """The Parquet files of the slice; the entry, which is JSON, is small enough to be read whole by its model."""
    store = open_store(state.output_uri)
    listed = [entry.key for entry in store.list(state.prefix) if entry.key.endswith(".parquet")]
    assert {key.split("/")[3] for key in listed} == {"parts", "commits", "tallies"}
    return {key: store.get(key) for key in listed}


@pytest.fixture(scope="module")
def wanted(state):
    return read_all(state)


def footer_start(content: bytes) -> int:
    return len(content) - 8 - int.from_bytes(content[-8:-4], "little")


def read_damaged(state: Ledger, files: dict[str, bytes], key: str, content: bytes) -> list[object] | None:
    """What is read after the object is replaced; None if it is refused."""
    try:
        state.store.put(key, content)
        return read_all(state)
    except (DamagedState, IncompleteSlice) as error:
        assert key in str(error) or isinstance(error, IncompleteSlice)
        return None
    finally:
        state.store.put(key, files[key])


@fuzz(150)
@given(st.data())
def test_damaged_pages_are_refused(state, files, wanted, data):
    key = data.draw(st.sampled_from(sorted(files)))
    start = footer_start(files[key])
    pages = data.draw(mutated([files[key][:start]]))[:start].ljust(start, b"\0")
    found = read_damaged(state, files, key, pages + files[key][start:])
    assert found is None or found == wanted


@fuzz(150)
@given(st.data())
def test_a_damaged_object_is_one_error_or_read(state, files, data):
    """It may be read, since nothing guards a footer; the rows are checked against what the footer says of them."""
    key = data.draw(st.sampled_from(sorted(files)))
    content = data.draw(mutated([files[key]], marks=lambda content: list(range(max(0, footer_start(content)), len(content)))))
    read_damaged(state, files, key, content)
