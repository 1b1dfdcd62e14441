"""What a slice changes in the tables, applied by hand: files are appended, replaced objects leave scores and errors."""

import pickle
import tempfile
from collections import Counter

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, Field
from deltalake.transaction import AddAction, RemoveAction
from fake_run import DIGEST, FIRST, INPUT, MODEL, SOURCE, failed, run_id, scored, unit_id, write_slice

from pipeline.input.config import SourceConfig
from pipeline.input.identity import image_id
from pipeline.state.committed import IncompleteSlice
from pipeline.state.entries import read_slice
from pipeline.state.ledger import Ledger
from pipeline.state.publications import Change
from pipeline.state.scoring_config import SCORING_VERSION
from pipeline.tables import order, replaced, rewrite, seen_images, slice_files, slice_rows
from pipeline.tables import writer as table_files
from pipeline.tables.delta import TABLES, TableConflict, open_or_create, open_table
from pipeline.tables.slice_files import SliceFiles, slice_changes
from schemas import commit

DAY = "2026-01-01"
ARCHIVE = f"{INPUT}/x.tar"
BEFORE = [
    (DAY, [scored("a", 1.0), scored("b", 3.0), failed("c"), scored("t1", 4.0, ARCHIVE)]),
    ("2026-02-02", [scored("d", 2.0)]),
    (DAY, [scored("e", 2.5), failed("t2", uri=ARCHIVE), scored("gone", 9.0, ARCHIVE)]),
]
AFTER = [
    (DAY, [scored("c", 2.75), failed("b"), scored("late", 7.0)]),
    (DAY, [scored("t1", 5.0, ARCHIVE), scored("t2", 0.5, ARCHIVE)]),
    ("2026-03-03", [scored("f", 6.0)]),
]
MAPS = ("maps", "regions")


def changes_of(output, number, superseded=(), may_change=(), bases=(), map_fn=map) -> dict[str, Change]:
    ledger = Ledger(str(output), MODEL)
    files = SliceFiles(ledger, number, read_slice(ledger, number), names(superseded), names(may_change), bases)
    return slice_changes(files, {name: open_table(str(output), name) for name in TABLES}, map_fn)


def names(objects):
    return pa.array([name if "://" in name else f"{INPUT}/{name}" for name in objects], pa.string())


def apply(output, changes):
    for name, change in changes.items():
        table = open_or_create(str(output), name, pa.ipc.read_schema(pa.py_buffer(bytes.fromhex(change.schema))))
        actions = [RemoveAction(file.path, True, 0, size=file.size, partition_values=file.partition) for file in change.remove]
        actions += [AddAction(file.path, file.size, file.partition, 0, True, file.stats) for file in change.add]
        table.create_write_transaction(actions, "append", table.schema(), partition_by=table.metadata().partition_columns)


def bring_in(output, content, superseded=(), may_change=(), bases=(), map_fn=map, **options) -> dict[str, Change]:
    number = write_slice(output, content, **options)
    changes = changes_of(output, number, superseded, may_change, bases, map_fn)
    apply(output, changes)
    return changes


def rows(output, name):
    return DeltaTable(output / name).to_pyarrow_table().to_pylist() if DeltaTable.is_deltatable(str(output / name)) else []


def scores(output):
    return {row["member"] or row["uri"].removeprefix(f"{INPUT}/"): row["score"] for row in rows(output, "scores")}


def errors(output):
    return {row["member"] or row["uri"].removeprefix(f"{INPUT}/"): row["error"] for row in rows(output, "errors")}


def files(output, name):
    return {file.rpartition(f"/{name}/")[2] for file in DeltaTable(output / name).file_uris()}


def test_rows_of_a_slice(tmp_path):
    changes = bring_in(tmp_path, BEFORE)
    assert list(changes) == ["maps", "regions", "errors", "scores"]
    assert not any(change.remove for change in changes.values())
    assert scores(tmp_path) == {"a": 1.0, "b": 3.0, "t1": 4.0, "d": 2.0, "e": 2.5, "gone": 9.0}
    (row,) = (row for row in rows(tmp_path, "scores") if row["uri"].endswith("/d"))
    expected = {"model": MODEL, "model_digest": DIGEST, "run_id": run_id(), "verdict": "not_judged", "device": "cpu-float32"}
    expected |= {"date": "2026-02-02", "period": "2026-02", "scoring_version": SCORING_VERSION, "unit_id": unit_id(FIRST, 1)}
    expected |= {"line": "7", "product": "tile", "lot": "lot1", "regions": 1, "hardware": "CPU with AVX2, torch 2.15.0"}
    assert expected.items() <= row.items()
    assert {row[name] for name in ("rank", "n_calibration", "p_value", "q_value", "calibration_digest")} == {None}
    assert errors(tmp_path) == {"c": "truncated", "t2": "truncated"}
    assert len(rows(tmp_path, "maps")) == len(rows(tmp_path, "regions")) == 6
    for name, change in changes.items():
        for file in change.add:
            assert file.path.startswith(f"model={MODEL}/period={file.partition['period']}/{run_id()}-"), name


def test_order_and_columns_inside_files(tmp_path):
    changes = bring_in(tmp_path, BEFORE)
    by_month = {name: {file.partition["period"]: file.path for file in change.add} for name, change in changes.items()}
    scores_file = pq.read_table(tmp_path / "scores" / by_month["scores"]["2026-01"], partitioning=None)
    assert scores_file["score"].to_pylist() == [9.0, 4.0, 3.0, 2.5, 1.0]
    assert set(scores_file["date"].to_pylist()) == {DAY}
    errors_file = pq.read_table(tmp_path / "errors" / by_month["errors"]["2026-01"], partitioning=None)
    assert errors_file["uri"].to_pylist() == [f"{INPUT}/c", ARCHIVE]
    maps = tmp_path / "maps" / by_month["maps"]["2026-01"]
    units = pq.read_table(maps, partitioning=None)["unit_id"].to_pylist()
    assert units == sorted(units) and len(set(units)) == 2
    assert pq.read_schema(maps).names == [name for name in TABLES["maps"].SCHEMA.names if name not in ("model", "period")]


def test_a_later_slice_replaces_what_it_holds_anew(tmp_path):
    """c was bad and is good, b was good and is bad, x.tar changed and lost a member; the rest stays as it is."""
    bring_in(tmp_path, BEFORE)
    maps, february = files(tmp_path, "maps"), {file for file in files(tmp_path, "scores") if "2026-02" in file}
    changes = bring_in(tmp_path, AFTER)
    assert scores(tmp_path) == {"a": 1, "c": 2.75, "t1": 5, "t2": 0.5, "d": 2, "e": 2.5, "late": 7, "f": 6}
    assert errors(tmp_path) == {"b": "truncated"}
    assert not changes["maps"].remove and not changes["regions"].remove
    assert maps < files(tmp_path, "maps") and february < files(tmp_path, "scores")
    images = {(row["image_id"], row["unit_id"]) for row in rows(tmp_path, "scores")}
    for name in MAPS:
        assert images < {(row["image_id"], row["unit_id"]) for row in rows(tmp_path, name)}
    kept = [row for row in rows(tmp_path, "scores") if row["uri"] == f"{INPUT}/a"]
    assert [(row["run_id"], row["unit_id"]) for row in kept] == [(run_id(FIRST), unit_id(FIRST, 0))]
    for file in changes["scores"].add:
        in_file = pq.read_table(tmp_path / "scores" / file.path, partitioning=None)["score"].to_pylist()
        assert in_file == sorted(in_file, reverse=True)


def test_new_objects_are_only_appended(tmp_path, monkeypatch):
    bring_in(tmp_path, BEFORE)
    for module in (replaced, rewrite, seen_images):
        monkeypatch.setattr(module, "open_ranged", lambda *_: pytest.fail("an existing file was read"))
    changes = bring_in(tmp_path, [(DAY, [scored("late", 7.0)])])
    assert not any(change.remove for change in changes.values())
    assert len(files(tmp_path, "scores")) == 3 and scores(tmp_path)["late"] == 7.0


def looked_at(monkeypatch):
    """(table, file) of every file that is opened to look for rows that go."""
    seen, original = [], slice_files.rewrite

    def rewrite(job):
        seen.append((job.table, job.file.path))
        return original(job)

    monkeypatch.setattr(slice_files, "rewrite", rewrite)
    return seen


def test_only_files_that_may_hold_replaced_objects_are_looked_at(tmp_path, monkeypatch):
    """By month, by the URIs of a file, and by the slice that wrote it."""
    bring_in(tmp_path, [(DAY, [scored("a", 1.0), scored("c", 1.0)]), ("2026-02-01", [scored("b2", 1.0)])])
    holding = {file for file in files(tmp_path, "scores") if "2026-01" in file}
    bring_in(tmp_path, [(DAY, [scored("m", 2.0), scored("z", 2.0)])])
    bring_in(tmp_path, [(DAY, [scored("a2", 3.0), scored("b3", 3.0)])])
    seen = looked_at(monkeypatch)
    changes = bring_in(tmp_path, [(DAY, [scored("a", 9.0)])])
    assert seen == [("scores", path) for path in holding]
    assert {file.path for file in changes["scores"].remove} == holding
    assert scores(tmp_path) == {"a": 9.0, "c": 1.0, "b2": 1.0, "m": 2.0, "z": 2.0, "a2": 3.0, "b3": 3.0}


def test_a_file_without_replaced_objects_stays(tmp_path, monkeypatch):
    bring_in(tmp_path, [(DAY, [failed("b")])])
    bring_in(tmp_path, [(DAY, [scored("a", 1.0), scored("c", 1.0)])])
    seen = looked_at(monkeypatch)
    changes = bring_in(tmp_path, [(DAY, [scored("a", 2.0), scored("b", 2.0)])])
    assert Counter(table for table, _ in seen) == {"errors": 1, "scores": 1}
    assert len(changes["errors"].remove) == 1 and not changes["errors"].add, "a file that loses all of its rows only goes"
    seen.clear()
    changes = bring_in(tmp_path, [(DAY, [scored("b", 3.0)])])
    assert len(changes["scores"].remove) == 1 and len(changes["scores"].add) == 2
    assert scores(tmp_path) == {"a": 2.0, "b": 3.0, "c": 1.0}


def test_a_failed_attempt_never_replaces_a_row_that_is_there(tmp_path):
    bring_in(tmp_path, BEFORE)
    again = [
        (DAY, [failed("a", "gone"), failed("c", "refused"), failed("new", "archived"), scored("b", 8.0)]),
        (DAY, [scored("t1", 9.0, ARCHIVE), failed("t2", "changed", ARCHIVE)]),
    ]
    changes = bring_in(tmp_path, again, may_change=["a", "c", "new", ARCHIVE])
    assert scores(tmp_path) == {"a": 1.0, "b": 8.0, "t1": 4.0, "d": 2.0, "e": 2.5, "gone": 9.0}
    assert errors(tmp_path) == {"c": "truncated", "t2": "truncated", "new": "archived"}
    assert not changes["errors"].remove
    assert Counter(row["unit_id"] for row in rows(tmp_path, "maps"))[unit_id(FIRST + 1, 1)] == 0, "nothing of x.tar is written"


def test_an_attempt_that_failed_is_written_if_the_one_before_was_never_published(tmp_path):
    write_slice(tmp_path, [(DAY, [failed("a", "gone")])])
    bring_in(tmp_path, [(DAY, [failed("a", "refused")])], may_change=["a"])
    assert errors(tmp_path) == {"a": "refused"}
    bring_in(tmp_path, [(DAY, [scored("a", 1.0)])])
    assert (errors(tmp_path), scores(tmp_path)) == ({}, {"a": 1.0})


def test_what_a_later_slice_has_published_is_left_out(tmp_path):
    bring_in(tmp_path, [(DAY, [scored("a", 1.0), scored("b", 1.0)])])
    held = write_slice(tmp_path, [(DAY, [scored("a", 2.0), failed("b"), scored("c", 2.0)])])
    bring_in(tmp_path, [(DAY, [scored("b", 3.0), scored("c", 3.0)])])
    apply(tmp_path, changes_of(tmp_path, held, superseded=["b", "c"]))
    assert (scores(tmp_path), errors(tmp_path)) == ({"a": 2.0, "b": 3.0, "c": 3.0}, {})
    assert changes_of(tmp_path, held, superseded=["a", "b", "c"]) == {}


def test_an_input_that_moved(tmp_path):
    """Mode key: the object is the same, its URI is another."""

    def at(place, content):
        source = SourceConfig(input_uri=place, image_id="key", input_name="line7")
        images = [{**row, "uri": f"{place}/{row['key']}", "image_id": image_id(f"key://line7/{row['key']}")} for row in content]
        return {"content": [(DAY, images)], "source": source}

    old, new = "s3://old/in", "s3://new/é in"
    bases = ((f"{old}/", "key://line7/"), (f"{new}/", "key://line7/"))
    bring_in(tmp_path, **at(old, [scored("a", 1.0), scored("b", 1.0), failed("c")]), bases=bases[:1])
    bring_in(
        tmp_path,
        **at(new, [scored("a", 2.0), scored("c", 2.0), failed("b", "gone")]),
        bases=bases,
        may_change=["key://line7/b"],
    )
    assert {row["uri"]: row["score"] for row in rows(tmp_path, "scores")} == {f"{new}/a": 2, f"{old}/b": 1, f"{new}/c": 2}
    assert errors(tmp_path) == {}
    assert len({row["image_id"] for row in rows(tmp_path, "scores")}) == 3


def rewritten_elsewhere(output, name):
    """Another program compacts the table: another order and kind of text, a column of its own, no statistics."""
    table = DeltaTable(output / name)
    whole = table.to_pyarrow_table()
    content = whole.drop_columns(["model", "period"]).take(list(reversed(range(whole.num_rows))))
    texts = [pa.field(c.name, pa.large_string()) if pa.types.is_string(c.type) else c.remove_metadata() for c in content.schema]
    content = content.cast(pa.schema(texts)).append_column("theirs", pa.array(range(content.num_rows), pa.int64()))
    partition = {"model": MODEL, "period": "2026-01"}
    path = f"model={MODEL}/period=2026-01/part-0.parquet"
    pq.write_table(content, output / name / path, row_group_size=2, write_statistics=False)
    table.alter.add_columns([Field("theirs", "long")])
    table = DeltaTable(output / name)
    actions = [RemoveAction(file.split(f"/{name}/")[1], True, 0) for file in table.file_uris()]
    size = (output / name / path).stat().st_size
    actions.append(AddAction(path, size, partition, 0, True, "{}"))
    table.create_write_transaction(actions, "append", table.schema(), partition_by=["model", "period"])


def test_files_of_other_programs(tmp_path):
    bring_in(tmp_path, [(DAY, [scored(name, float(i)) for i, name in enumerate("abcdef")])])
    rewritten_elsewhere(tmp_path, "scores")
    theirs = {row["uri"]: row["theirs"] for row in rows(tmp_path, "scores")}
    changes = bring_in(tmp_path, [(DAY, [scored("b", 50.0), failed("e"), failed("f", "gone")])], may_change=["f"])
    assert scores(tmp_path) == {"a": 0, "b": 50, "c": 2, "d": 3, "f": 5} and errors(tmp_path) == {"e": "truncated"}
    kept = {row["uri"]: row["theirs"] for row in rows(tmp_path, "scores")}
    assert kept == {uri: None if uri.endswith("/b") else number for uri, number in theirs.items() if not uri.endswith("/e")}
    assert len(changes["scores"].remove) == 1
    types = {c.type for c in pq.read_schema(tmp_path / "scores" / changes["scores"].add[-1].path)}
    assert pa.large_string() not in types, "rewritten files have the table's types"


def test_files_that_lack_newer_columns(tmp_path):
    plain = SOURCE.model_copy(update={"key_pattern": "{line}/{name}"})
    bring_in(tmp_path, BEFORE, source=plain)
    wider = SOURCE.model_copy(update={"key_pattern": "{line}/{product}/{date}/{lot}/{name}"})
    changes = bring_in(tmp_path, AFTER, source=wider)
    products = {row["uri"].removeprefix(f"{INPUT}/"): row["product"] for row in rows(tmp_path, "scores")}
    assert (products["d"], products["a"], products["f"]) == (None, None, "tile")
    assert len(changes["scores"].remove) == 1
    schema = pa.ipc.read_schema(pa.py_buffer(bytes.fromhex(changes["scores"].schema)))
    assert schema.names[-2:] == ["line", "product"]


def test_tables_that_do_not_fit_are_refused_before_anything_is_written(tmp_path):
    number = write_slice(tmp_path, BEFORE)
    DeltaTable.create(str(tmp_path / "runs"), schema=TABLES["runs"].SCHEMA)
    with pytest.raises(TableConflict, match="partitions of the table runs"):
        changes_of(tmp_path, number)
    assert not (tmp_path / "maps").exists()
    number = write_slice(tmp_path / "other", BEFORE)
    open_or_create(str(tmp_path / "other"), "scores", pa.schema([*TABLES["scores"].SCHEMA, pa.field("line", pa.int32())]))
    with pytest.raises(TableConflict, match="column line"):
        changes_of(tmp_path / "other", number)
    assert not (tmp_path / "other" / "maps").exists()


def test_a_month_may_hold_several_models(tmp_path):
    bring_in(tmp_path, BEFORE)
    bring_in(tmp_path, [(DAY, [scored("n", 1.0)])], digest="e" * 64)
    assert Counter(row["model_digest"] for row in rows(tmp_path, "scores")) == {DIGEST: 6, "e" * 64: 1}


def test_missing_commits_are_refused(tmp_path):
    number = write_slice(tmp_path / "unit", BEFORE, skip=(1,))
    with pytest.raises(IncompleteSlice, match=f"work unit 1 of slice {number}"):
        changes_of(tmp_path / "unit", number)
    number = write_slice(tmp_path / "stream", BEFORE, streams={0: 2})
    ledger = Ledger(str(tmp_path / "stream"), MODEL)
    ledger.store.delete(ledger.commit_key(number, 0, 1))
    with pytest.raises(IncompleteSlice, match="work unit 0"):
        changes_of(tmp_path / "stream", number)


def test_streams_and_parts_of_a_slice(tmp_path):
    bring_in(tmp_path, BEFORE, streams={0: 2, 2: 1}, parts=3)
    assert len(scores(tmp_path)) == 6
    bring_in(tmp_path, AFTER, streams={1: 1}, parts=2)
    assert scores(tmp_path) == {"a": 1, "c": 2.75, "t1": 5, "t2": 0.5, "d": 2, "e": 2.5, "late": 7, "f": 6}
    assert errors(tmp_path) == {"b": "truncated"}


def test_only_errors(tmp_path):
    changes = bring_in(tmp_path, [("none", [failed("a"), failed("b"), failed("c")])])
    assert list(changes) == ["errors"] and len(errors(tmp_path)) == 3
    assert [file.partition for file in changes["errors"].add] == [{"model": MODEL, "period": "none"}]


def test_jobs_travel_to_other_processes_and_stay_small(tmp_path, monkeypatch):
    """Every job holds at most JOB_IMAGES images and the unit that fills it, or one file; results come back by pickle."""
    monkeypatch.setattr(slice_rows, "JOB_IMAGES", 10)
    jobs = []

    def there_and_back(function, given):
        for job in given:
            jobs.append(job)
            yield pickle.loads(pickle.dumps(function(pickle.loads(pickle.dumps(job)))))

    days = ("2026-01-01", "2026-01-31", "2026-02-01")
    content = [(days[i % 3], [scored(f"{i}-{j}", float(j)) for j in range(4)]) for i in range(30)]
    bring_in(tmp_path, content, map_fn=there_and_back)
    units = [[number for first, end, _ in job.units for number in range(first, end)] for job in jobs]
    assert sorted(number for each in units for number in each) == list(range(30))
    assert max(map(len, units)) == 3, "12 images"
    assert {job.period for job in jobs} == {"2026-01", "2026-02"} and len(scores(tmp_path)) == 120
    jobs.clear()
    again = [(day, [scored(row["key"], 9.0) for row in images]) for day, images in content[:6]]
    bring_in(tmp_path, [*again, (DAY, [failed("6-0", "gone")])], map_fn=there_and_back, may_change=["6-0"])
    kinds = Counter(type(job).__name__ for job in jobs)
    assert set(kinds) == {"PartJob", "ScanJob", "RowsJob", "RewriteJob"}
    assert len(scores(tmp_path)) == 120 and sum(score == 9.0 for score in scores(tmp_path).values()) == 24


def test_files_and_row_groups_stay_small(tmp_path, monkeypatch):
    """Limits made small: several files a job, several row groups a file, still every row once and each file in order."""
    monkeypatch.setattr(table_files, "FILE_BYTES", 20_000)
    monkeypatch.setattr(order, "CHUNK_BYTES", 20_000)
    monkeypatch.setattr(order, "CHUNK_ROWS", 60)
    monkeypatch.setattr(TABLES["scores"], "ROW_GROUP_ROWS", 50)
    monkeypatch.setattr(TABLES["maps"], "ROW_GROUP_ROWS", 10)
    images = [scored(f"image{i:04}", float(i * 7919 % 1000)) for i in range(400)]
    changes = bring_in(tmp_path, [("none", images[i : i + 8]) for i in range(0, 400, 8)])
    read = [pq.read_table(tmp_path / "scores" / file.path, partitioning=None) for file in changes["scores"].add]
    assert len(read) > 4 and max(table.num_rows for table in read) < 70
    assert all(table["score"].to_pylist() == sorted(table["score"].to_pylist(), reverse=True) for table in read)
    assert len(scores(tmp_path)) == 400
    maps = [tmp_path / "maps" / file.path for file in changes["maps"].add]
    assert len(maps) > 2 and max(pq.read_metadata(path).num_row_groups for path in maps) > 1
    for path in maps:
        units = pq.read_table(path, partitioning=None)["unit_id"].to_pylist()
        assert units == sorted(units)
    assert len({row["image_id"] for row in rows(tmp_path, "maps")}) == len(rows(tmp_path, "maps")) == 400
    monkeypatch.setattr(replaced, "PIECE_ROWS", 7)
    monkeypatch.setattr(replaced, "OBJECTS_AT_ONCE", 11)
    bring_in(tmp_path, [("none", [scored(image["key"], 5000.0) for image in images[::2]])])
    assert len(scores(tmp_path)) == 400 and sum(score == 5000 for score in scores(tmp_path).values()) == 200


def test_a_score_that_is_not_finite_is_a_fault_of_ours(tmp_path):
    with pytest.raises(AssertionError, match="not finite"):
        bring_in(tmp_path, [("none", [scored("a", float("inf"))])])


def test_scratch_is_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    bring_in(tmp_path / "out", BEFORE)
    bring_in(tmp_path / "out", AFTER)
    assert not list((tmp_path / "scratch").iterdir())


def regions_of(*peaks):
    """Commit columns of an image with a region for each peak; other numbers differ by column and region."""
    found = [{field.name: 7 * j + i for j, field in enumerate(commit.REGION)} for i in range(len(peaks))]
    return {"regions": [{**region, "mass": 0.1, "peak": peak} for region, peak in zip(found, peaks, strict=True)]}


def test_regions_are_those_of_the_unit_that_scores_names(tmp_path):
    """Fewer, more, none, not computed, and an image that is bad now: readers join by the work unit."""
    before = {"a": (3, 2, 1), "b": (2,), "c": (5, 4), "d": (7, 6), "e": (9, 8), "kept": (4, 3)}
    bring_in(tmp_path, [(DAY, [scored(name, 1.0, **regions_of(*peaks)) for name, peaks in before.items()])])
    after = [scored("a", 2.0, **regions_of(30)), scored("b", 2.0, **regions_of(22, 21)), scored("c", 2.0, **regions_of())]
    bring_in(tmp_path, [(DAY, [*after, scored("d", 2.0, regions=None), failed("e")])])
    units = {row["image_id"]: row["unit_id"] for row in rows(tmp_path, "scores")}
    named = {scored(name, 1.0)["image_id"]: name for name in before}
    shown = [row for row in rows(tmp_path, "regions") if units.get(row["image_id"]) == row["unit_id"]]
    found = sorted((named[row["image_id"]], row["region"], row["peak"]) for row in shown)
    assert found == [("a", 0, 30), ("b", 0, 22), ("b", 1, 21), ("kept", 0, 4), ("kept", 1, 3)]
    counts = {named[row["image_id"]]: row["regions"] for row in rows(tmp_path, "scores")}
    assert counts == {"a": 1, "b": 2, "c": 0, "d": None, "kept": 2}


def in_every_reader(output, name, columns, by):
    """The table's rows as pyarrow, pandas and DuckDB give them; each list must be the same."""
    table = DeltaTable(output / name)
    read = f"read_parquet({table.file_uris()}, hive_partitioning = true, hive_types_autocast = false, union_by_name = true)"
    in_duckdb = duckdb.sql(f"select {', '.join(columns)} from {read} order by {', '.join(by)}").to_arrow_table().to_pylist()
    in_arrow = table.to_pyarrow_table(columns=columns).sort_by([(name, "ascending") for name in by]).to_pylist()
    in_pandas = table.to_pandas(columns=columns).sort_values(by).to_dict("records")
    assert in_arrow == in_pandas == in_duckdb
    return in_arrow


def test_every_reader_sees_the_same_before_and_after_a_replacement(tmp_path):
    for content, high in ((BEFORE, 9.0), (AFTER, 7.0)):
        bring_in(tmp_path, content)
        columns = ["uri", "member", "score", "date", "period", "model", "run_id", "scoring_version"]
        found = in_every_reader(tmp_path, "scores", ["image_id", *columns[:1], *columns[2:]], ["image_id"])
        assert len(found) == len(scores(tmp_path)) and max(row["score"] for row in found) == high
        in_every_reader(tmp_path, "errors", ["image_id", "uri", "error", "byte_offset", "date"], ["image_id"])
        in_every_reader(
            tmp_path, "maps", ["image_id", "unit_id", "map", "map_scale", "date", "period"], ["image_id", "unit_id"]
        )


def test_every_reader_sees_the_regions_as_they_were_committed(tmp_path):
    images = {"a": regions_of(9.5, 0.1, -3.0), "b": regions_of(), "c": {"regions": None}, "d": regions_of(1e-30)}
    bring_in(tmp_path, [("none", [scored(name, 1.0, **columns) for name, columns in images.items()])])
    columns = ["image_id", "region", *(field.name for field in commit.REGION)]
    committed = [
        {"image_id": scored(name, 1.0)["image_id"], "region": i, **region}
        for name, given in images.items()
        for i, region in enumerate(given["regions"] or [])
    ]
    shape = pa.schema([TABLES["regions"].SCHEMA.field(name) for name in columns])
    by = [("image_id", "ascending"), ("region", "ascending")]
    expected = pa.Table.from_pylist(committed, shape).sort_by(by).to_pylist()
    assert in_every_reader(tmp_path, "regions", columns, ["image_id", "region"]) == expected and len(expected) == 4


HOSTILE = [
    *("../../escape.jpg", "/etc/x.jpg", "a\nb.jpg", "q'\"`;--.jpg", "'; drop table scores; --", "%2e%2e%2f.jpg", "a\\b.jpg"),
    *("<script>alert(1)</script>.jpg", "{lot}.jpg", "$1 ${HOME} `id`.jpg", "\u202egpj.jpg", "é.jpg", "e\u0301.jpg", "😀.jpg"),
    *("n" * 1000 + ".jpg", "nul\0.jpg", " ", "null", "NaN", "*?[].jpg", "\t\r\x7f\x01.jpg"),
]


def test_any_name_is_found_and_replaced(tmp_path):
    """A name is a value: as member, URI, lot and key column, in tables, statistics and where objects are compared."""
    bad = [failed(f"bad {name}", uri=f"{INPUT}/bad {name}") for name in HOSTILE]
    shard = [scored(name, 1.0, ARCHIVE, lot=name, keys=[("line", name)]) for name in HOSTILE]
    loose = [scored(f"loose {name}", 2.0, lot=name, keys=[("line", name)]) for name in HOSTILE]
    bring_in(tmp_path, [("none", bad + shard + loose)])
    assert scores(tmp_path) == {name: 1.0 for name in HOSTILE} | {f"loose {name}": 2.0 for name in HOSTILE}
    delta = {name: DeltaTable(tmp_path / name) for name in ("scores", "errors")}
    for name in HOSTILE:
        for table, column, value, count in (
            ("scores", "member", name, 1),
            ("scores", "uri", f"{INPUT}/loose {name}", 1),
            ("scores", "line", name, 2),
            ("scores", "lot", name, 2),
            ("errors", "uri", f"{INPUT}/bad {name}", 1),
        ):
            assert delta[table].to_pyarrow_table(filters=[(column, "=", value)]).num_rows == count, (column, value)
    mended = [scored(f"bad {name}", 3.0, uri=f"{INPUT}/bad {name}") for name in HOSTILE]
    bring_in(tmp_path, [("none", [*mended, *(scored(f"loose {name}", 4.0) for name in HOSTILE[::2])])])
    assert errors(tmp_path) == {} and Counter(scores(tmp_path).values()) == {1.0: 21, 2.0: 10, 3.0: 21, 4.0: 11}


@pytest.mark.parametrize("date", ["a\nb", "q'\"", "%2F", "..", "a=b", "a b", "é😀", "*", "d" * 64, "é" * 32, "\x7f", "none"])
def test_any_day_names_a_partition_and_no_other_folder(tmp_path, date):
    output = tmp_path / "deep" / "out"
    bring_in(output, [(date, [scored("a", 1.0), failed("b")])])
    bring_in(output, [(date, [scored("b", 2.0)])])
    (row, _) = DeltaTable(output / "scores").to_pyarrow_table(filters=[("period", "=", date)]).sort_by("uri").to_pylist()
    assert (row["date"], row["period"]) == (date, date) and errors(output) == {}
    assert [path.name for path in tmp_path.iterdir()] == ["deep"] and [p.name for p in (tmp_path / "deep").iterdir()] == ["out"]
    assert {path.name for path in output.iterdir()} == {"_flowscore", "scores", "errors", "maps", "regions"}
