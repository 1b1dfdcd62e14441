"""What a Parquet file does to the process that parses it, and what that costs; test_sandbox.py has what the sandbox forbids."""

import contextlib
import io
import os
import resource
import threading
import time

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from plan_units import plan_units

from pipeline.decode import sandbox
from pipeline.input.config import SourceConfig, Start
from pipeline.input.parquet import parser
from pipeline.input.parquet import shard as parquet_shard
from pipeline.input.parquet.shard import ParquetShard
from pipeline.sources import parquet
from pipeline.storage.objects import Unreachable
from pipeline.storage.store import open_store

PARSER = """
import os, signal, sys, time
from pipeline.input.parquet import child

class Dangerous:
    def __init__(self, parquet):
        self._parquet = parquet

    def __getattr__(self, name):
        return getattr(self._parquet, name)

    def iter_batches(self, rows, groups, columns, use_threads):
        for batch in self._parquet.iter_batches(rows, groups, columns, use_threads=use_threads):
            for column in batch.columns:
                for cell in column.to_pylist():
                    deed(cell if isinstance(cell, bytes) else str(cell).encode())
            yield batch

def deed(cell):
    match cell.split(b" "):
        case [b"segfault"]:
            os.kill(os.getpid(), signal.SIGSEGV)
        case [b"exit"]:
            os._exit(3)
        case [b"killed"]:
            os.kill(os.getpid(), signal.SIGKILL)
        case [b"once", pid] if os.getpid() == int(pid):
            os.kill(os.getpid(), signal.SIGKILL)
        case [b"hang"]:
            time.sleep(1000)
        case [b"memory"]:
            bytearray(1 << 40)
        case [b"junk"]:
            os.write(int(sys.argv[3]), b"junk\\n")
        case [b"beyond"]:
            os.write(int(sys.argv[3]), b'["Read", 1000000000, 10]\\n')
        case [b"more"]:
            os.write(int(sys.argv[3]), b'["Cells", ["a"], [1000], 2000]\\n')

def open_file(file, request):
    deed(request.key.encode())
    return Dangerous(child.open_file(file, request))
"""


@pytest.fixture
def dangerous(tmp_path, monkeypatch):
    """A store and a parser that does to its process what a cell, or the file's name, says."""
    folder = tmp_path / "parser"
    folder.mkdir()
    name = f"dangerous_{tmp_path.name}"
    (folder / f"{name}.py").write_text(PARSER)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr(parquet_shard, "PARSE", f"{name}:open_file")
    yield open_store(tmp_path / "input")
    for one in [one for one in parquet_shard._idle if one.parse.startswith(name)]:
        one.end()


def written(cells, group=1000, **columns):
    sink = io.BytesIO()
    pq.write_table(pa.table({"image": pa.array(cells, pa.binary()), **columns}), sink, row_group_size=group)
    return sink.getvalue()


def rows(store, config):
    units = plan_units(parquet, store.list(), config, store)
    return [row for unit in units for part in parquet.read(unit, store, config, Start()) for row in part.table.to_pylist()]


@pytest.mark.parametrize(
    ("deed", "error", "says"),
    [
        (b"segfault", "decoder_crashed", "SIGSEGV"),
        (b"exit", "decoder_crashed", "exit code 3"),
        (b"killed", "decoder_crashed", "SIGKILL"),
        (b"memory", "too_much_memory", "memory"),
        (b"hang", "decoder_timeout", "longer than 1 s"),
        (b"junk", "decoder_crashed", "its answer is none"),
        (b"more", "decoder_crashed", "its answer is none"),
        (b"beyond", "decoder_crashed", "not in the file"),
    ],
)
@pytest.mark.parametrize("unit_images", [3, 1000])
def test_rows_that_end_the_parser_cost_the_rest_of_their_group(dangerous, monkeypatch, deed, error, says, unit_images):
    monkeypatch.setattr(parser, "TIMEOUT_S", 1.0)
    cells = [b"image %d" % number for number in range(12)]
    cells[5] = deed
    dangerous.put("s.parquet", written(cells, 4))
    dangerous.put("t.parquet", written([b"good"]))
    found = rows(dangerous, SourceConfig(input_uri=dangerous.uri, unit_images=unit_images))
    assert [row["error"] for row in found] == [None] * 5 + [error] * 3 + [None] * 5
    assert [row["encoded"] for row in found] == [*cells[:5], None, None, None, *cells[8:], b"good"]
    assert [row["member"] for row in found] == [*map(str, range(12)), "0"]
    assert says in found[5]["message"] and found[5]["stage"] == "read"


def test_a_kill_from_outside_is_not_blamed_on_the_rows(dangerous):
    config = SourceConfig(input_uri=dangerous.uri)
    dangerous.put("s.parquet", written([b"x"]))
    rows(dangerous, config)
    (idle,) = [one for one in parquet_shard._idle if one.parse == parquet_shard.PARSE]
    dangerous.put("s.parquet", written([b"x", b"once %d" % idle.pid, b"y"]))
    assert [row["error"] for row in rows(dangerous, config)] == [None] * 3
    assert not idle.usable()


def test_deaths_of_a_unit_are_counted(dangerous):
    dangerous.put("s.parquet", written([b"exit"] * 10 + [b"good"], 1))
    found = rows(dangerous, SourceConfig(input_uri=dangerous.uri))
    assert [row["error"] for row in found] == ["decoder_crashed"] * 11


@pytest.mark.parametrize(("key", "error"), [("segfault", "decoder_crashed"), ("memory", "too_much_memory")])
def test_a_footer_that_ends_the_parser_is_one_row(dangerous, monkeypatch, key, error):
    monkeypatch.setattr(parquet, "claims", lambda key: True)
    dangerous.put(key, written([b"good"] * 3))
    dangerous.put("t.parquet", written([b"good"]))
    found = rows(dangerous, SourceConfig(input_uri=dangerous.uri))
    assert [(row["member"], row["error"]) for row in found] == [(None, error), ("0", None)]


def test_ids_that_end_the_parser_name_no_row_twice(dangerous):
    """The rows after them cannot count the names before them."""
    dangerous.put("s.parquet", written([b"1", b"2", b"3", b"4"], 2, id=["a", "exit", "a", "b"]))
    found = rows(dangerous, SourceConfig(input_uri=dangerous.uri, unit_images=2, id_column="id"))
    assert [row["error"] for row in found] == [None] + ["decoder_crashed"] * 3
    assert [row["member"] for row in found] == ["a", "row 1", "row 2", "row 3"]
    assert len({row["image_id"] for row in found}) == 4


def test_the_parser_has_no_rights_and_is_kept(dangerous):
    dangerous.put("s.parquet", written([b"x"]))
    config = SourceConfig(input_uri=dangerous.uri, max_parse_bytes=300 << 20)
    pids = set()
    for _ in range(3):
        with ParquetShard(dangerous, "s.parquet", None, config) as shard:
            assert [cell.content for cell in shard.cells(0, 0, 10)] == [b"x"]
            pids.add(shard._parser.pid)
    (pid,) = pids
    status = open(f"/proc/{pid}/status").read()
    assert "NoNewPrivs:\t1" in status and "CapEff:\t0000000000000000" in status
    assert resource.prlimit(pid, resource.RLIMIT_DATA) == (300 << 20, 300 << 20)
    assert resource.prlimit(pid, resource.RLIMIT_NOFILE)[1] == sandbox.OPEN_FILES
    assert {os.readlink(f"/proc/{pid}/fd/{fd}").split(":")[0] for fd in os.listdir(f"/proc/{pid}/fd")} >= {"pipe"}


def test_two_files_are_open_at_once(dangerous):
    dangerous.put("s.parquet", written([b"1", b"2"]))
    dangerous.put("t.parquet", written([b"3", b"4"]))
    config = SourceConfig(input_uri=dangerous.uri)
    with ParquetShard(dangerous, "s.parquet", None, config) as one, ParquetShard(dangerous, "t.parquet", None, config) as two:
        pairs = zip(one.cells(0, 0, 1), two.cells(0, 0, 1), strict=True)
        assert [(a.content, b.content) for a, b in pairs] == [(b"1", b"3"), (b"2", b"4")]


def test_storage_that_fails_midway_ends_the_conversation(dangerous, monkeypatch):
    dangerous.put("s.parquet", written([os.urandom(200_000)]))
    config = SourceConfig(input_uri=dangerous.uri)
    with ParquetShard(dangerous, "s.parquet", None, config) as shard:
        with monkeypatch.context() as patch:
            patch.setattr(type(dangerous), "get_range", lambda *arguments: (_ for _ in ()).throw(Unreachable("no")))
            with pytest.raises(Unreachable):
                list(shard.cells(0, 0, 1))
        assert [cell.size for cell in shard.cells(0, 0, 1)] == [200_000]


def test_a_small_file_of_a_huge_cell_takes_bounded_memory_and_the_others_are_scored(tmp_path):
    """60 kB that hold 600 MB: the parser may have 256 MiB, and its parent gets none of it."""
    store = open_store(tmp_path)
    sink = io.BytesIO()
    table = pa.table({"image": [b"before", bytes(600_000_000), b"after"]})
    pq.write_table(table, sink, row_group_size=1, compression="zstd", use_dictionary=False, write_statistics=False)
    assert len(sink.getvalue()) < 100_000
    store.put("bomb.parquet", sink.getvalue())
    store.put("good.parquet", written([b"good"] * 3))
    del table, sink
    pa.default_memory_pool().release_unused()
    most, done, me = 0, threading.Event(), psutil.Process()

    def held() -> int:
        """By this process and its children, of which earlier tests may have left some."""
        found = me.memory_info().rss
        for child in me.children():
            with contextlib.suppress(psutil.NoSuchProcess):
                found += child.memory_info().rss
        return found

    before = held()

    def watch():
        nonlocal most
        while not done.is_set():
            most = max(most, held() - before)
            time.sleep(0.01)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        found = rows(store, SourceConfig(input_uri=store.uri, max_parse_bytes=256 << 20))
    finally:
        done.set()
        watcher.join()
    assert [row["error"] for row in found] == [None, "too_much_memory", None, None, None, None]
    assert most < 1 << 30
