import io
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.storage import ranged
from pipeline.storage.objects import Changed, Gone, Unreachable
from pipeline.storage.ranged import open_ranged
from pipeline.storage.store import open_store

CONTENT = os.urandom(1000)


@pytest.fixture
def store(place, monkeypatch):
    monkeypatch.setattr(ranged, "TAIL_BYTES", 100)
    store = open_store(place)
    store.put("x", CONTENT)
    return store


def test_it_reads_like_a_file(store):
    with open_ranged(store, "x") as file:
        assert (file.size, file.tell(), file.bytes_read) == (1000, 0, 100)
        assert file.read(10) == CONTENT[:10] and file.tell() == 10
        assert file.seek(-5, io.SEEK_END) == 995 and file.read() == CONTENT[995:]
        assert file.seek(890) == 890 and file.read(20) == CONTENT[890:910]
        assert file.seek(5, io.SEEK_CUR) == 915 and file.read(1) == CONTENT[915:916]
        assert file.seek(2000) == 2000 and file.read(5) == b"" and file.seek(0) == 0 and file.read() == CONTENT
        buffer = bytearray(7)
        file.seek(3)
        assert file.readinto(buffer) == 7 and buffer == CONTENT[3:10]
    assert file.closed


def test_only_the_tail_is_fetched_for_a_footer(place):
    store, sink = open_store(place), io.BytesIO()
    pq.write_table(pa.table({"x": [os.urandom(500_000)], "y": [1]}), sink)
    store.put("t.parquet", sink.getvalue())
    with open_ranged(store, "t.parquet") as file:
        assert pq.read_metadata(file).num_rows == 1
        assert file.bytes_read == ranged.TAIL_BYTES
        assert pq.read_table(file, columns=["y"])["y"].to_pylist() == [1]
        assert file.bytes_read < 2 * ranged.TAIL_BYTES


def test_it_is_pinned_to_the_etag(store, monkeypatch):
    (entry,) = store.list()
    file = open_ranged(store, "x", entry.etag)
    store.put("x", b"other")
    with pytest.raises(Changed):
        file.read(10)
    with pytest.raises(Changed):
        open_ranged(store, "x", entry.etag)
    store.delete("x")
    with pytest.raises(Gone):
        open_ranged(store, "x")


def test_storage_errors_pass_through_pyarrow(store, monkeypatch):
    def fail(*arguments):
        raise Unreachable("no answer")

    sink = io.BytesIO()
    pq.write_table(pa.table({"x": [os.urandom(5000)]}), sink)
    store.put("t.parquet", sink.getvalue())
    with open_ranged(store, "t.parquet") as file:
        monkeypatch.setattr(type(store), "get_range", fail)
        with pytest.raises(Unreachable):
            pq.read_table(file)
