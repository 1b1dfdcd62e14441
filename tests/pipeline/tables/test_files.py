from deltalake import DeltaTable
from deltalake.transaction import AddAction
from fake_run import FIRST, MODEL, failed, published, run_id, scored

from pipeline.tables.delta import TABLES, open_or_create, open_table
from pipeline.tables.files import active_files, data_files

CONTENT = [("2026-01-01", [scored("a", 1.0), scored("b", 2.0), failed("c")]), ("50% off/é", [scored("d", 2.0)])]


def test_files_with_what_their_statistics_say(tmp_path):
    published(tmp_path, CONTENT)
    published(tmp_path, [("2026-01-31", [scored("e", 1.0)])])
    published(tmp_path, CONTENT, model="other")
    table = open_table(str(tmp_path), "scores")
    found = active_files(table, MODEL, {"2026-01", "50% off/é", "2026-02"})
    assert sorted((active.file.partition["period"], *active[1:4]) for active in found) == [
        ("2026-01", "s3://line/a", "s3://line/b", run_id(FIRST)),
        ("2026-01", "s3://line/e", "s3://line/e", run_id(FIRST + 1)),
        ("50% off/é", "s3://line/d", "s3://line/d", run_id(FIRST)),
    ]
    january = ("2026-01-01", "2026-01-01"), ("2026-01-31", "2026-01-31")
    assert [active.days for active in found if active.file.partition["period"] == "2026-01"] == list(january)
    assert {active.lots for active in found} == {("lot1", "lot1")}
    assert len(active_files(table, MODEL, None)) == 3
    assert all((tmp_path / "scores" / active.file.path).stat().st_size == active.file.size for active in found)
    assert [active.file for active in found] == [file for file in data_files(table) if file.partition["model"] == MODEL]
    assert active_files(table, MODEL, ()) == active_files(None, MODEL, {"2026-01"}) == []


def test_a_file_without_statistics_says_nothing(tmp_path):
    table = open_or_create(str(tmp_path), "errors", TABLES["errors"].SCHEMA)
    partition = {"model": MODEL, "period": "none"}
    table.create_write_transaction(
        [AddAction("x.parquet", 1, partition, 0, True, "{}")], "append", table.schema(), partition_by=["model", "period"]
    )
    (found,) = active_files(DeltaTable(tmp_path / "errors"), MODEL, ["none"])
    assert found[1:] == (None,) * 6
