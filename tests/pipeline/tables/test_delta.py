import json
import shutil
from datetime import UTC, datetime

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from fake_run import SOURCE, failed, scored
from fake_run import published as publish_slice
from scipy import ndimage

from models.maps.quantise import quantise
from pipeline.storage.store import open_store
from pipeline.tables import delta as tables
from pipeline.tables.writer import PartitionWriter
from schemas import errors, maps, scores


@pytest.fixture(scope="module")
def published_once(tmp_path_factory):
    """Three files in three partitions: columns with values, with some nulls and with nulls only."""
    tmp_path = tmp_path_factory.mktemp("published")
    (region,) = scored("a.png", 1.5)["regions"]
    regions = [{name: number + 0.1 * i for name, number in region.items()} | {"x0": i, "x1": 30 + i} for i in range(3)]
    units = [
        ("2026-01-01", [scored("a.png", 1.5, regions=regions), scored("b.png", 2.5, lot=None), failed("c.png")]),
        ("2026-02-02", [scored("d.png", 0.5, captured_at=None, keys=[("line", "8")]), failed("e.png", byte_offset=None)]),
        ("50% off/é", [scored("f.png", 3.5, keys=[], lot=None, regions=None)]),
    ]
    pattern = "/".join([*(f"{{key{i}}}" for i in range(6)), "{line}/{product}/{name}"])
    publish_slice(tmp_path, units, source=SOURCE.model_copy(update={"key_pattern": pattern}))
    return tmp_path


@pytest.fixture
def published(published_once, tmp_path):
    return shutil.copytree(published_once, tmp_path / "output")


@pytest.mark.parametrize("name", ["scores", "maps", "regions", "errors", "runs"])
@pytest.mark.parametrize("log", ["as written", "checkpointed"])
def test_filters_on_every_column_find_their_rows(published, name, log):
    if log == "checkpointed":
        DeltaTable(published / name).create_checkpoint()
    table = DeltaTable(published / name)
    rows = table.to_pyarrow_table()
    assert rows.num_rows
    view = duckdb.connect()
    for column in rows.schema:
        for value in rows[column.name].unique():
            if pa.types.is_binary(column.type):
                continue
            matches = pc.field(column.name) == value if value.is_valid else pc.field(column.name).is_null()
            expected = rows.filter(matches).num_rows
            assert expected
            found = table.to_pyarrow_dataset().to_table(filter=matches)
            assert found.num_rows == expected, (column.name, value)
            in_pandas = table.to_pandas(filters=matches)
            assert len(in_pandas) == expected, (column.name, value)
            read_parquet = f"read_parquet({table.file_uris()}, hive_partitioning = true, hive_types_autocast = false)"
            in_duckdb = view.execute(
                f'select count(*) from {read_parquet} where "{column.name}" is not distinct from ?', [value.as_py()]
            )
            assert in_duckdb.fetchall() == [(expected,)], (column.name, value)


def test_statistics_are_complete_or_absent(published):
    for name in ("scores", "maps", "regions", "errors", "runs"):
        for line in (published / name / "_delta_log" / f"{1:020}.json").read_text().splitlines():
            action = json.loads(line).get("add")
            if action is None:
                continue
            stats = json.loads(action["stats"])
            schema = pa.schema(DeltaTable(published / name).schema().to_arrow())
            plain = {c.name for c in schema if not pa.types.is_binary(c.type)} - set(action["partitionValues"])
            assert set(stats["nullCount"]) == plain
            for column in plain:
                has_bounds = {column in stats["minValues"], column in stats["maxValues"]}
                assert has_bounds == {stats["nullCount"][column] < stats["numRecords"]}, column


def test_long_text_leaves_only_the_row_count(tmp_path):
    row = {name: "x" for name in errors.SCHEMA.names} | {"byte_offset": 1, "message": "m" * 5000}
    store = open_store(str(tmp_path))
    with PartitionWriter(store, "errors", errors.SCHEMA, {"model": "m", "period": "d"}, "r", tmp_path) as writer:
        writer.write(pa.Table.from_pylist([row], schema=errors.SCHEMA))
    assert json.loads(writer.files[0].stats) == {"numRecords": 1}


def test_a_map_of_48_x_48_cells_takes_less_than_2_kilobytes(tmp_path):
    """At zstd's own level these smooth maps take 2.25 KB."""
    random = np.random.default_rng(0)
    cells = [ndimage.gaussian_filter(random.gamma(4, 1, (48, 48)), 4).astype(np.float32) for _ in range(200)]
    same = {"unit_id": "u", "model": "m", "date": "d", "period": "d"}
    rows = [{"image_id": f"{i:032x}", "map": quantise(values)[0], **same} for i, values in enumerate(cells)]
    with PartitionWriter(
        open_store(str(tmp_path)), "maps", maps.SCHEMA, {"model": "m", "period": "d"}, "r", tmp_path
    ) as writer:
        writer.write(pa.Table.from_pylist(rows, schema=maps.SCHEMA))
    group = pq.read_metadata(tmp_path / "maps" / writer.files[0].path).row_group(0)
    (column,) = [group.column(i) for i in range(group.num_columns) if group.column(i).path_in_schema == "map"]
    assert column.total_compressed_size < 2_000 * len(rows)


def test_columns_explain_themselves_in_table_and_files(published):
    schema = tables.arrow_schema(DeltaTable(published / "scores"))
    assert all(column.metadata[b"meaning"] for column in schema)
    path = next((published / "scores").glob("model=*/period=2026-01/*.parquet"))
    in_file = pa.parquet.read_schema(path)
    assert in_file.field("bytes").metadata[b"unit"] == b"bytes"


def test_tables_keep_the_simplest_protocol_and_the_rollback_window(published):
    for name in ("scores", "maps", "regions", "errors", "runs"):
        table = DeltaTable(published / name)
        assert (table.protocol().min_reader_version, table.protocol().min_writer_version) == (1, 2)
        properties = table.metadata().configuration
        assert properties["delta.logRetentionDuration"] == "interval 90 days"
        assert properties["delta.deletedFileRetentionDuration"] == "interval 97 days"
        assert properties[tables.VERSION_PROPERTY] == str(tables.TABLES[name].VERSION)
        assert properties["delta.enableExpiredLogCleanup"] == "false" and properties["delta.checkpointInterval"] == "10"


def test_key_columns_are_added_and_clashes_refused(tmp_path):
    output = str(tmp_path)
    tables.open_or_create(output, "scores", tables.score_schema(["line", "date", "lot"]))
    table = tables.open_or_create(output, "scores", tables.score_schema(["product"]))
    assert tables.arrow_schema(table).names == [*scores.SCHEMA.names, "line", "product"]
    assert table.protocol().min_reader_version == 1
    assert tables.arrow_schema(table).field("product").metadata[b"meaning"]
    with pytest.raises(tables.TableConflict, match="got 'Score'"):
        tables.score_schema(["Score"])
    with pytest.raises(tables.TableConflict, match="got 'LINE'"):
        tables.score_schema(["line", "LINE"])


def test_other_partitions_types_and_versions_are_refused(tmp_path):
    output = str(tmp_path)
    DeltaTable.create(tmp_path / "maps", schema=tables.TABLES["maps"].SCHEMA, partition_by=["model"])
    with pytest.raises(tables.TableConflict, match="partitions of the table maps"):
        tables.open_or_create(output, "maps", tables.TABLES["maps"].SCHEMA)
    DeltaTable.create(tmp_path / "errors", schema=errors.SCHEMA, partition_by=["model", "period"])
    with pytest.raises(tables.TableConflict, match="schema version of the table errors"):
        tables.open_or_create(output, "errors", errors.SCHEMA)
    table = tables.open_or_create(output, "scores", scores.SCHEMA)
    other = pa.schema([*scores.SCHEMA, pa.field("line", pa.int32())])
    tables.open_or_create(output, "scores", other)
    with pytest.raises(tables.TableConflict, match="column line"):
        tables.open_or_create(output, "scores", tables.score_schema(["line"]))
    table.update_incremental()
    table.alter.set_table_properties({tables.VERSION_PROPERTY: "99"}, raise_if_not_exists=False)
    with pytest.raises(tables.TableConflict, match="newer flowscore"):
        tables.open_or_create(output, "scores", scores.SCHEMA)


def test_a_table_is_opened_at_a_version(published):
    output = str(published)
    assert tables.open_table(output, "scores").version() == 1
    assert tables.open_table(output, "scores", 0).file_uris() == []
    assert tables.open_table(output, "lots") is None


def test_no_columns_are_asked_for_by_what_only_removes(published):
    before = tables.arrow_schema(tables.open_table(str(published), "scores"))
    table = tables.open_or_create(str(published), "scores", None)
    assert tables.arrow_schema(table) == before and table.version() == 1


def test_bounds_are_written_as_delta_reads_them(published):
    actions = pa.table(DeltaTable(published / "scores").get_add_actions(flatten=True))
    highest = actions["max.captured_at"].to_pylist()
    assert sorted(t for t in highest if t) == [datetime(2026, 1, 2, 3, 4, 5, 123456, tzinfo=UTC)] * 2
