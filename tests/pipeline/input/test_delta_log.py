"""Which files of a table are live is held against what the deltalake library says."""

import json
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from pipeline.input.config import SourceConfig
from pipeline.input.delta_log import LOG, UnreadableTable, live_files
from pipeline.input.listing import Listing
from pipeline.storage.store import open_store


def rows(low, high, **columns):
    images = pa.array([f"image {n}".encode() for n in range(low, high)], pa.binary())
    return pa.table({"k": list(range(low, high)), "image": images, **columns})


def library_says(table, root):
    """Keys below `root`; the library encodes the table's own path, and leaves what is below it as it is on disk."""
    base = DeltaTable(table).table_uri.removeprefix("file://")
    inside = Path(table).relative_to(root)
    return {(inside / uri.removeprefix(base)).as_posix() for uri in DeltaTable(table).file_uris()}


def listed(root):
    return [entry.key for entry in Listing(SourceConfig(input_uri=str(root)), open_store(str(root)))]


def appended(table):
    write_deltalake(table, rows(0, 10))
    write_deltalake(table, rows(10, 20), mode="append")


def deleted(table):
    appended(table)
    DeltaTable(table).delete("k >= 15")
    DeltaTable(table).delete("k < 10")


def overwritten(table):
    appended(table)
    write_deltalake(table, rows(20, 25), mode="overwrite")


def compacted(table):
    for low in range(0, 40, 10):
        write_deltalake(table, rows(low, low + 10), mode="append")
    DeltaTable(table).optimize.compact()


def updated(table):
    appended(table)
    DeltaTable(table).update(predicate="k = 3", updates={"k": "300"})


def restored(table):
    deleted(table)
    DeltaTable(table).restore(1)


def checkpointed(table):
    deleted(table)
    DeltaTable(table).create_checkpoint()
    write_deltalake(table, rows(50, 60), mode="append")
    DeltaTable(table).delete("k = 55")


def without_old_commits(table):
    checkpointed(table)
    for version in (0, 1, 2):
        (Path(table) / LOG / f"{version:020}.json").unlink()


def partitioned(table):
    days = pa.array(["2026-01-01", "a/b %", None, "ü", "A"] * 2)
    write_deltalake(table, rows(0, 10, date=days), partition_by=["date"])
    DeltaTable(table).delete("date = 'A'")


WRITERS = (appended, deleted, overwritten, compacted, updated, restored, checkpointed, without_old_commits, partitioned)


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("folder", ["", "imgs/", "A/b/Table 1/"])
def test_the_newest_version_is_what_is_listed(tmp_path, write, folder):
    table = tmp_path / folder
    write(str(table))
    wanted = library_says(str(table), tmp_path)
    assert live_files(open_store(str(tmp_path)), folder) == wanted
    for name in ("a.jpg", "zz/b.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert listed(tmp_path) == sorted([*wanted, "a.jpg", "zz/b.jpg"])
    config = SourceConfig(input_uri=str(tmp_path))
    listing = Listing(config, open_store(str(tmp_path)))
    every = len(list(open_store(str(tmp_path)).list()))
    assert len(list(listing)) + listing.ignored == every


def test_names_that_sort_before_the_log_are_held_against_it(tmp_path):
    """Older writers name files 0-<uuid>.parquet: storage is asked whether a log follows."""
    write_deltalake(str(tmp_path / "t"), rows(0, 5))
    DeltaTable(str(tmp_path / "t")).delete("k = 4")
    log = tmp_path / "t" / LOG
    for number, file in enumerate(sorted((tmp_path / "t").glob("*.parquet"))):
        file.rename(tmp_path / "t" / f"{number}-A.parquet")
        for commit in log.glob("*.json"):
            commit.write_text(commit.read_text().replace(file.name, f"{number}-A.parquet"))
    pq.write_table(rows(0, 1), tmp_path / "0.parquet")
    assert set(listed(tmp_path)) == library_says(str(tmp_path / "t"), tmp_path) | {"0.parquet"}
    assert len(listed(tmp_path)) == 2


def test_two_tables_and_shards_that_belong_to_none(tmp_path):
    for name in ("T1", "t2"):
        deleted(str(tmp_path / name))
    for name in ("S/1/s.parquet", "t10.parquet", "t2.parquet", "zz/s.parquet"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(rows(0, 1), tmp_path / name)
    wanted = {key for name in ("T1", "t2") for key in library_says(str(tmp_path / name), tmp_path)}
    assert set(listed(tmp_path)) == wanted | {"S/1/s.parquet", "t10.parquet", "t2.parquet", "zz/s.parquet"}


def changed(table, change):
    """Rewrites the actions of the table's last commit."""
    commit = max((Path(table) / LOG).glob("*.json"))
    lines = [json.loads(line) for line in commit.read_text().splitlines()]
    commit.write_text("\n".join(json.dumps(line) for line in change(lines)))


def protocol(reader, *features):
    return lambda lines: [
        *lines,
        {
            "protocol": {
                "minReaderVersion": reader,
                "minWriterVersion": 7,
                "readerFeatures": list(features),
                "writerFeatures": [],
            }
        },
    ]


def configured(**configuration):
    named = {name.replace("_", "."): value for name, value in configuration.items()}
    return lambda lines: [
        *lines,
        {"metaData": {"id": "x", "schemaString": "{}", "partitionColumns": [], "configuration": named}},
    ]


def with_vector(lines):
    vector = {"storageType": "u", "pathOrInlineDv": "ab^-aqEH.-t@S}K{vb[*k^", "offset": 4, "sizeInBytes": 40, "cardinality": 6}
    return [{"add": {**line["add"], "deletionVector": vector}} if "add" in line else line for line in lines]


def shallow(lines):
    return [{"add": {**line["add"], "path": "s3://bucket/" + line["add"]["path"]}} if "add" in line else line for line in lines]


REFUSED = [
    (with_vector, "must have no deletion vectors"),
    (configured(delta_columnMapping_mode="name"), "must have no column mapping"),
    (configured(delta_columnMapping_mode="id"), "must have no column mapping"),
    (protocol(3, "timestampNtz", "icebergCompatV9"), "use features that are read; got icebergCompatV9"),
    (protocol(4), "reader version of 1 to 3; got 4"),
    (shallow, "shallow clone"),
    (lambda lines: [*lines, {"add": {"path": 7}}], "a log that can be read"),
    (lambda lines: [*lines, {"sidecar": {"path": "x.parquet"}}], "v2 checkpoint"),
    (
        lambda lines: [*lines, {"add": {"path": "gone.parquet"}}],
        "must have all files of its newest version; got none at 't/gone",
    ),
]


@pytest.mark.parametrize(("change", "message"), REFUSED)
def test_a_table_that_needs_more_than_names_is_refused_in_one_line(tmp_path, change, message):
    appended(str(tmp_path / "t"))
    changed(tmp_path / "t", change)
    with pytest.raises(UnreadableTable, match=re.escape(message)) as caught:
        listed(tmp_path)
    assert "'t'" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [protocol(3, "deletionVectors", "columnMapping", "timestampNtz"), configured(delta_columnMapping_mode="none"), protocol(2)],
)
def test_a_feature_that_is_named_and_not_used_is_no_fault(tmp_path, change):
    appended(str(tmp_path))
    changed(tmp_path, change)
    assert len(listed(tmp_path)) == 2


@pytest.mark.parametrize("content", [b"not json", b"[1]", b"\xff\xfe", b'{"add": null}', b'{"remove": {}}'])
def test_a_damaged_log_is_one_line(tmp_path, content):
    appended(str(tmp_path))
    (tmp_path / LOG / f"{1:020}.json").write_bytes(content)
    with pytest.raises(UnreadableTable, match="a log that can be read"):
        listed(tmp_path)


def test_a_gap_in_the_log_and_a_damaged_checkpoint(tmp_path):
    checkpointed(str(tmp_path))
    checkpoint = next((tmp_path / LOG).glob("*.checkpoint.parquet"))
    whole = checkpoint.read_bytes()
    for damage in (whole[: len(whole) // 2], b"", b"PAR1"):
        checkpoint.write_bytes(damage)
        with pytest.raises(UnreadableTable, match="a log that can be read"):
            listed(tmp_path)
    checkpoint.write_bytes(whole)
    (tmp_path / LOG / f"{4:020}.json").unlink()
    with pytest.raises(UnreadableTable, match="no commit of version 4"):
        listed(tmp_path)
