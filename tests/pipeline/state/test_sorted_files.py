import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.state import sorted_files
from pipeline.state.sorted_files import SortedFiles, outside
from pipeline.state.state_file import DamagedState
from pipeline.storage.objects import Gone
from pipeline.storage.store import open_store

NAMES = [f"{line}{number:02d}" for line in "abc" for number in range(20)]


@pytest.fixture
def store(tmp_path):
    pq.write_table(pa.table({"object": NAMES[:25], "etag": NAMES[:25]}), tmp_path / "1.parquet", row_group_size=5)
    pq.write_table(pa.table({"object": pa.array([], pa.string()), "etag": pa.array([], pa.string())}), tmp_path / "2.parquet")
    pq.write_table(pa.table({"object": NAMES[25:], "etag": NAMES[25:]}), tmp_path / "3.parquet", row_group_size=5)
    return open_store(tmp_path)


def files(store, prefix="", keys=("1.parquet", "2.parquet", "3.parquet"), columns=("object",)):
    return SortedFiles(store, keys, columns, lambda piece: piece, prefix)


def names(tables):
    assert all(len(table) for table in tables)
    return [name for table in tables for name in table["object"].to_pylist()]


@pytest.mark.parametrize("at_once", [1, 10, 1000])
@pytest.mark.parametrize("step", [1, 3, 7, 60])
def test_every_row_comes_once_and_in_order(store, monkeypatch, at_once, step):
    monkeypatch.setattr(sorted_files, "ROWS_AT_ONCE", at_once)
    rows = files(store)
    for start in range(0, len(NAMES), step):
        wanted = NAMES[start : start + step]
        assert rows.buffered_to() >= wanted[0]
        assert names(rows.upto(wanted[-1] + "x")) == wanted
        assert not rows.upto(wanted[-1] + "x")
    assert rows.buffered_to() is None
    assert not rows.upto("z")


def test_row_groups_outside_the_prefix_are_left_out(store):
    assert names(files(store, "b").upto("z")) == NAMES[20:40]
    assert names(files(store, "b1").upto("z")) == NAMES[30:40]
    assert not files(store, "d").upto("z")


@pytest.mark.parametrize(
    "first, last, prefix, expected",
    [("a", "c", "b", False), ("b1", "b2", "b", False), ("a", "b", "b", False), ("c", "d", "b", True), ("a", "a9", "b", True)],
)
def test_outside(first, last, prefix, expected):
    assert outside(first, last, prefix) is expected


def test_a_file_that_is_missing_or_lacks_a_column_is_named(store):
    with pytest.raises(Gone, match="4.parquet"):
        files(store, keys=("1.parquet", "4.parquet")).upto("z")
    with pytest.raises(DamagedState, match="1.parquet"):
        files(store, columns=("object", "stamp")).upto("z")
