import shutil
from collections import Counter

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from fake_run import DIGEST, MODEL, RUN, failed, info, scored, unit_id, write_slice

from pipeline.state.committed import IncompleteSlice
from pipeline.state.run_state import RunState
from pipeline.storage.local import LocalStore
from pipeline.tables import delta as tables
from pipeline.tables import partition
from pipeline.tables import writer as table_files
from pipeline.tables.error_share import TooManyErrors
from pipeline.tables.finalize import finalize_slice, read_published
from pipeline.tables.query import open_tables
from pipeline.tables.run_row import Counts
from schemas import commit
from schemas.footer import StageSeconds

TIMES = ("scored_at", "finished_at", "started_at", "spent_s")
FIRST = [
    ("2026-01-01", [scored("a", 1.0), scored("b", 3.0), failed("c"), scored("t1", 4.0, "s3://line/x.tar")]),
    ("2026-01-02", [scored("d", 2.0)]),
    ("2026-01-01", [scored("e", 2.5), failed("t2", uri="s3://line/x.tar"), scored("gone", 9.0, "s3://line/x.tar")]),
]
SECOND = [
    ("2026-01-01", [scored("c", 2.75), failed("b", "changed"), scored("late", 7.0)]),
    ("2026-01-01", [scored("t1", 5.0, "s3://line/x.tar"), scored("t2", 0.5, "s3://line/x.tar")]),
    ("2026-01-03", [scored("f", 6.0)]),
]


def rows(output, name):
    """The table's rows in an order of their own, without what depends on the time of day."""
    if not DeltaTable.is_deltatable(str(output / name)):
        return []
    table = DeltaTable(output / name).to_pyarrow_table()
    table = table.select([column for column in table.column_names if column not in TIMES])
    return sorted(table.to_pylist(), key=repr)


def contents(output):
    return {name: rows(output, name) for name in tables.TABLES}


def names_and_scores(output, date=None):
    table = DeltaTable(output / "scores").to_pyarrow_table(filters=[("date", "=", date)] if date else None)
    return {(row["member"] or row["uri"]).removeprefix("s3://line/"): row["score"] for row in table.to_pylist()}


def test_rows_of_a_slice(tmp_path):
    write_slice(tmp_path, FIRST)
    counts = finalize_slice(str(tmp_path), info())
    assert counts == Counts(8, 6, 2, 0, 3, 800, StageSeconds(read=0.75, decode=1.5, score=3.0, wait=1.5))
    assert read_published(RunState(str(tmp_path), RUN), 0) == counts
    assert names_and_scores(tmp_path) == {"a": 1.0, "b": 3.0, "t1": 4.0, "d": 2.0, "e": 2.5, "gone": 9.0}
    row = next(row for row in rows(tmp_path, "scores") if row["uri"] == "s3://line/d")
    fixed = {"model": MODEL, "model_digest": DIGEST, "run_id": RUN, "verdict": "not_judged", "device": "cpu-float32"}
    assert fixed.items() <= row.items()
    assert {"line": "7", "product": "tile", "lot": "lot1", "regions": 1, "unit_id": unit_id(RUN, 0, 1)}.items() <= row.items()
    assert {row[name] for name in ("rank", "n_calibration", "p_value", "q_value", "calibration_digest")} == {None}
    errors = rows(tmp_path, "errors")
    assert [(row["uri"], row["member"], row["error"]) for row in errors] == [
        ("s3://line/c", None, "truncated"),
        ("s3://line/x.tar", "t2", "truncated"),
    ]
    assert len(rows(tmp_path, "maps")) == len(rows(tmp_path, "regions")) == 6
    (run,) = rows(tmp_path, "runs")
    assert (run["planned"], run["scored"], run["quarantined"], run["ignored"]) == (8, 6, 2, 3)
    assert run["device_seconds"] == 3.0


def test_order_inside_files(tmp_path):
    write_slice(tmp_path, FIRST)
    finalize_slice(str(tmp_path), info())
    (path,) = (tmp_path / "scores").glob("model=*/date=2026-01-01/*.parquet")
    assert pq.read_table(path, partitioning=None)["score"].to_pylist() == [9.0, 4.0, 3.0, 2.5, 1.0]
    (path,) = (tmp_path / "maps").glob("model=*/date=2026-01-01/*.parquet")
    units = pq.read_table(path, partitioning=None)["unit_id"].to_pylist()
    assert units == sorted(units) and len(set(units)) == 2
    assert pq.read_schema(path).names == [c for c in tables.TABLES["maps"].SCHEMA.names if c not in ("model", "date")]


def test_later_slice_replaces_what_it_holds_anew(tmp_path):
    """c was bad and is good, b was good and is bad, x.tar changed and lost a member; the rest stays as it is."""
    write_slice(tmp_path, FIRST)
    finalize_slice(str(tmp_path), info())
    before = set((tmp_path / "maps").rglob("*.parquet"))
    write_slice(tmp_path, SECOND, number=1)
    finalize_slice(str(tmp_path), info(slice=1))
    assert names_and_scores(tmp_path) == {"a": 1, "c": 2.75, "t1": 5, "t2": 0.5, "d": 2, "e": 2.5, "late": 7, "f": 6}
    assert [(row["uri"], row["error"]) for row in rows(tmp_path, "errors")] == [("s3://line/b", "changed")]
    scored_images = Counter((row["image_id"], row["unit_id"]) for row in rows(tmp_path, "scores"))
    assert Counter((row["image_id"], row["unit_id"]) for row in rows(tmp_path, "maps")) == scored_images
    assert Counter((row["image_id"], row["unit_id"]) for row in rows(tmp_path, "regions")) == scored_images
    assert before < set((tmp_path / "maps").rglob("*.parquet")), "replaced files stay for rollback"
    (path,) = tables.active_files(DeltaTable(tmp_path / "scores"), MODEL, ["2026-01-01"])["2026-01-01"]
    in_file = pq.read_table(tmp_path / "scores" / path.path, partitioning=None)["score"].to_pylist()
    assert in_file == sorted(in_file, reverse=True)


def test_late_images_only_add_maps(tmp_path):
    write_slice(tmp_path, FIRST)
    finalize_slice(str(tmp_path), info())
    before = set(DeltaTable(tmp_path / "maps").file_uris())
    write_slice(tmp_path, [("2026-01-01", [scored("late", 7.0)])], number=1)
    finalize_slice(str(tmp_path), info(slice=1))
    assert before < set(DeltaTable(tmp_path / "maps").file_uris())
    assert len(DeltaTable(tmp_path / "scores").file_uris()) == 2


def regions_of(*peaks):
    """Commit columns of an image with a region for each peak; other numbers differ by column and region."""
    found = [{field.name: 7 * j + i for j, field in enumerate(commit.REGION)} for i in range(len(peaks))]
    return {"regions": [{**region, "mass": 0.1, "peak": peak} for region, peak in zip(found, peaks, strict=True)]}


def test_every_reader_sees_the_regions_as_they_were_committed(tmp_path):
    images = {"a": regions_of(9.5, 0.1, -3.0), "b": regions_of(), "c": {"regions": None}, "d": regions_of(1e-30)}
    write_slice(tmp_path, [("none", [scored(name, 1.0, **columns) for name, columns in images.items()])])
    finalize_slice(str(tmp_path), info())
    ids = {name: scored(name, 1.0)["image_id"] for name in images}
    committed = [
        {"image_id": ids[name], "region": i, **region}
        for name, columns in images.items()
        for i, region in enumerate(columns["regions"] or [])
    ]
    shape = tables.TABLES["regions"].SCHEMA
    names = ["image_id", "region", *(field.name for field in commit.REGION)]
    expected = pa.Table.from_pylist(committed, pa.schema([shape.field(name) for name in names])).sort_by(
        [("image_id", "ascending"), ("region", "ascending")]
    )
    table = DeltaTable(tmp_path / "regions")
    in_arrow = table.to_pyarrow_table(columns=names).sort_by([("image_id", "ascending"), ("region", "ascending")])
    in_pandas = table.to_pandas(columns=names).sort_values(["image_id", "region"])
    in_duckdb = open_tables(str(tmp_path)).connection.sql(f"select {', '.join(names)} from regions order by image_id, region")
    assert in_arrow.to_pylist() == in_pandas.to_dict("records") == in_duckdb.to_arrow_table().to_pylist()
    assert in_arrow.to_pylist() == expected.to_pylist() and in_arrow.num_rows == 4
    question = "select image_id, regions, count(region) from scores left join regions using (image_id, unit_id) group by all"
    answer = open_tables(str(tmp_path)).connection.sql(question).fetchall()
    counted = {image_id: (count, rows) for image_id, count, rows in answer}
    assert counted == {ids["a"]: (3, 3), ids["b"]: (0, 0), ids["c"]: (None, 0), ids["d"]: (1, 1)}


def test_replaced_images_replace_their_regions(tmp_path):
    """Fewer, more, none, not computed, and an image that is bad now: nothing of the earlier regions is left."""
    day = "2026-01-01"
    before = {"a": (3, 2, 1), "b": (2,), "c": (5, 4), "d": (7, 6), "e": (9, 8), "kept": (4, 3)}
    write_slice(tmp_path, [(day, [scored(name, 1.0, **regions_of(*peaks)) for name, peaks in before.items()])])
    finalize_slice(str(tmp_path), info())
    after = [
        scored("a", 2.0, **regions_of(30)),
        scored("b", 2.0, **regions_of(22, 21)),
        scored("c", 2.0, **regions_of()),
        scored("d", 2.0, regions=None),
        failed("e"),
    ]
    write_slice(tmp_path, [(day, after)], number=1)
    for _ in range(2):  # once more with its end forgotten: nothing is doubled
        finalize_slice(str(tmp_path), info(slice=1))
        RunState(str(tmp_path), RUN).store.delete(RunState(str(tmp_path), RUN).published_key(1))
        names = {scored(name, 1.0)["image_id"]: name for name in before}
        found = sorted((names[row["image_id"]], row["region"], row["peak"]) for row in rows(tmp_path, "regions"))
        assert found == [("a", 0, 30), ("b", 0, 22), ("b", 1, 21), ("kept", 0, 4), ("kept", 1, 3)]
        counts = {names[row["image_id"]]: row["regions"] for row in rows(tmp_path, "scores")}
        assert counts == {"a": 1, "b": 2, "c": 0, "d": None, "kept": 2}
    assert DeltaTable(tmp_path / "regions").version() == 2


class Killed(BaseException):
    pass


def kill_at(monkeypatch, boundary):
    """Raise Killed before the boundary-th step that changes storage (that is, after the one before)."""
    passed = []

    def wrap(owner, method):
        original = getattr(owner, method)

        def step(*args, **kwargs):
            if len(passed) == boundary:
                raise Killed(f"before {method}")
            passed.append(method)
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, method, staticmethod(step) if method == "create" else step)

    for method in ("put", "put_new_file", "delete"):
        wrap(LocalStore, method)
    for method in ("create", "create_write_transaction"):
        wrap(DeltaTable, method)


def test_a_kill_at_any_step_changes_nothing_in_the_end(tmp_path):
    template, expected = tmp_path / "template", tmp_path / "expected"
    write_slice(template, [FIRST[0], FIRST[2]])
    finalize_slice(str(template), info())
    write_slice(template, SECOND[:2], number=1)
    shutil.copytree(template, expected)
    finalize_slice(str(expected), info(slice=1))
    wanted = contents(expected)
    boundary, finished = 0, False
    while not finished:
        output = tmp_path / f"killed-{boundary}"
        shutil.copytree(template, output)
        with pytest.MonkeyPatch.context() as patch:
            kill_at(patch, boundary)
            try:
                finalize_slice(str(output), info(slice=1))
                finished = True
            except Killed:
                pass
        seen = names_and_scores(output)
        assert seen in (names_and_scores(template), names_and_scores(expected)), "a reader sees all of it or nothing"
        finalize_slice(str(output), info(slice=1))
        assert contents(output) == wanted, f"after a kill at step {boundary}"
        assert read_published(RunState(str(output), RUN), 1) == read_published(RunState(str(expected), RUN), 1)
        shutil.rmtree(output)
        boundary += 1
    assert boundary > 12


def test_a_kill_before_the_first_table_exists(tmp_path):
    write_slice(tmp_path, FIRST)
    for boundary in (1, 3, 5):
        with pytest.MonkeyPatch.context() as patch:
            kill_at(patch, boundary)
            with pytest.raises(Killed):
                finalize_slice(str(tmp_path), info())
    finalize_slice(str(tmp_path), info())
    assert len(rows(tmp_path, "scores")) == 6


def test_finalizing_twice_changes_no_table(tmp_path):
    write_slice(tmp_path, FIRST)
    counts = finalize_slice(str(tmp_path), info())
    versions = {name: DeltaTable(tmp_path / name).version() for name in ("scores", "maps", "regions", "runs")}
    assert finalize_slice(str(tmp_path), info()) == counts
    RunState(str(tmp_path), RUN).store.delete(RunState(str(tmp_path), RUN).published_key(0))
    assert finalize_slice(str(tmp_path), info()) == counts, "read back from the runs table"
    assert versions == {name: DeltaTable(tmp_path / name).version() for name in versions}


def test_another_writer_in_between(tmp_path, monkeypatch):
    """Another run publishes to the same partition after our files were written and before our commit of scores."""
    write_slice(tmp_path, FIRST)
    write_slice(tmp_path, [("2026-01-01", [scored("a", 8.0), scored("z", 8.5)])], run_id="other")
    original, calls = DeltaTable.create_write_transaction, []

    def interfering(table, *args, **kwargs):
        calls.append(table.table_uri)
        if len(calls) == 4:
            monkeypatch.setattr(DeltaTable, "create_write_transaction", original)
            finalize_slice(str(tmp_path), info(run_id="other"))
            monkeypatch.setattr(DeltaTable, "create_write_transaction", interfering)
        return original(table, *args, **kwargs)

    monkeypatch.setattr(DeltaTable, "create_write_transaction", interfering)
    finalize_slice(str(tmp_path), info())
    assert calls[3].rstrip("/").endswith("scores") and calls[4].rstrip("/").endswith("scores")
    images = Counter(row["uri"] + (row["member"] or "") for row in rows(tmp_path, "scores"))
    assert max(images.values()) == 1 and "s3://line/z" in images
    assert names_and_scores(tmp_path)["a"] == 1.0
    shown = open_tables(str(tmp_path)).connection.sql("select image_id, unit_id from maps").fetchall()
    published = {(row["image_id"], row["unit_id"]) for row in rows(tmp_path, "scores")}
    assert len(set(shown)) == len(shown) and set(shown) < published, "only the map that the other run replaced is missing"
    assert list((tmp_path / "scores").glob("model=*/date=2026-01-01/run1-*")).__len__() == 1, "the stale file is deleted"


def test_too_many_errors_publish_nothing_until_accepted(tmp_path):
    write_slice(tmp_path, FIRST)
    with pytest.raises(TooManyErrors, match=r"at most 20.00%; got 25.00% \(2 of 8\).*--accept-errors"):
        finalize_slice(str(tmp_path), info(max_error_share=0.2))
    assert contents(tmp_path) == dict.fromkeys(tables.TABLES, [])
    assert not list(tmp_path.glob("*/model=*/*/*.parquet"))
    assert read_published(RunState(str(tmp_path), RUN), 0) is None
    finalize_slice(str(tmp_path), info(max_error_share=0.2, accept_errors=True))
    assert len(rows(tmp_path, "scores")) == 6


def test_an_archive_that_is_not_read_publishes_nothing_until_accepted(tmp_path):
    """One row of 101: far below any share, but nobody knows how many images are in it."""
    images = [scored(str(number), 1.0) for number in range(100)]
    write_slice(tmp_path, [("none", [*images, failed("in/b.zip", "unsupported_archive")])])
    with pytest.raises(TooManyErrors, match=r"got 1 that are not: 'in/b.zip'. Nothing was published.*--accept-errors"):
        finalize_slice(str(tmp_path), info(max_error_share=1.0))
    assert contents(tmp_path) == dict.fromkeys(tables.TABLES, []) and not list(tmp_path.glob("*/model=*/*/*.parquet"))
    counts = finalize_slice(str(tmp_path), info(max_error_share=0.0, accept_errors=True))
    assert (counts.scored, counts.quarantined) == (100, 1)
    assert [row["error"] for row in rows(tmp_path, "errors")] == ["unsupported_archive"]


def test_ignored_members_are_added_to_ignored_objects(tmp_path):
    write_slice(tmp_path, FIRST, streams={0: 2}, ignored=7)
    assert finalize_slice(str(tmp_path), info()).ignored == 3 + 4 * 7, "two parts of the stream and two other units"
    assert rows(tmp_path, "runs")[0]["ignored"] == 31


def test_only_errors(tmp_path):
    write_slice(tmp_path, [("none", [failed("a"), failed("b"), failed("c")])])
    counts = finalize_slice(str(tmp_path), info(max_error_share=1.0))
    assert (counts.scored, counts.quarantined) == (0, 3)
    assert len(rows(tmp_path, "errors")) == 3 and not (tmp_path / "scores").exists()


def test_missing_commits_are_refused(tmp_path):
    write_slice(tmp_path / "unit", FIRST, skip=(1,))
    with pytest.raises(IncompleteSlice, match="work unit 1 of slice 0"):
        finalize_slice(str(tmp_path / "unit"), info())
    write_slice(tmp_path / "stream", FIRST, streams={0: 2})
    state = RunState(str(tmp_path / "stream"), RUN)
    state.store.delete(state.commit_key(0, 0, 1))
    with pytest.raises(IncompleteSlice, match="work unit 0"):
        finalize_slice(str(tmp_path / "stream"), info())


def test_tar_streams_are_read_part_by_part(tmp_path):
    write_slice(tmp_path, FIRST, streams={0: 2, 2: 1})
    assert finalize_slice(str(tmp_path), info()).scored == 6


def test_slices_are_published_in_order(tmp_path):
    write_slice(tmp_path, FIRST)
    write_slice(tmp_path, SECOND, number=1)
    with pytest.raises(ValueError, match="while 0 is not"):
        finalize_slice(str(tmp_path), info(slice=1))


def test_another_digest_in_a_partition_is_refused(tmp_path):
    write_slice(tmp_path, FIRST)
    finalize_slice(str(tmp_path), info())
    write_slice(tmp_path, [("2026-01-02", [scored("n", 1.0)])], run_id="new")
    with pytest.raises(tables.PartitionConflict, match="date 2026-01-02"):
        finalize_slice(str(tmp_path), info(run_id="new", model_digest="e" * 64))
    finalize_slice(str(tmp_path), info(run_id="new", model_digest="e" * 64, model="other"))
    assert len(rows(tmp_path, "scores")) == 7


def test_images_with_one_id_are_one_row(tmp_path):
    """image_id by content: equal pictures are one image; a score wins over an error, then the first in the plan."""
    twin = {"image_id": "f" * 32}
    units = [
        ("none", [failed("a", **twin), scored("b", 1.0, **twin), scored("c", 2.0)]),
        ("none", [scored("d", 3.0, **twin), failed("e")]),
    ]
    write_slice(tmp_path, units)
    counts = finalize_slice(str(tmp_path), info())
    assert (counts.planned, counts.scored, counts.quarantined, counts.duplicates) == (5, 3, 2, 2)
    assert names_and_scores(tmp_path) == {"b": 1.0, "c": 2.0}
    assert [row["uri"] for row in rows(tmp_path, "errors")] == ["s3://line/e"]
    assert len(rows(tmp_path, "maps")) == len(rows(tmp_path, "regions")) == 2
    assert len(list((tmp_path / "maps").rglob("*.parquet"))) == 1, "files of the first reading are deleted"


def test_many_files_row_groups_and_chunks(tmp_path, monkeypatch):
    """Limits made small: several files a partition, several row groups a file, still one order and every row once."""
    monkeypatch.setattr(table_files, "FILE_BYTES", 20_000)
    monkeypatch.setattr(table_files, "CHUNK_BYTES", 20_000)
    monkeypatch.setattr(table_files, "SPOOL_ROWS", 7)
    monkeypatch.setattr(tables.TABLES["scores"], "ROW_GROUP_ROWS", 50)
    monkeypatch.setattr(tables.TABLES["maps"], "ROW_GROUP_ROWS", 10)
    images = [scored(f"image{i:04}", float(i * 7919 % 1000)) for i in range(400)]
    write_slice(tmp_path, [("none", images[i : i + 8]) for i in range(0, 400, 8)])
    finalize_slice(str(tmp_path), info())
    files = tables.active_files(DeltaTable(tmp_path / "scores"), MODEL, ["none"])["none"]
    assert len(files) > 1
    parts = [pq.read_table(tmp_path / "scores" / file.path, partitioning=None)["score"].to_pylist() for file in files]
    joined = [score for part in sorted(parts, reverse=True) for score in part]
    assert joined == sorted((image["score"] for image in images), reverse=True)
    maps = list((tmp_path / "maps").rglob("*.parquet"))
    assert len(maps) > 2 and max(pq.read_metadata(path).num_row_groups for path in maps) > 1
    for path in maps:
        units = pq.read_table(path, partitioning=None)["unit_id"].to_pylist()
        assert units == sorted(units)
    ids = DeltaTable(tmp_path / "maps").to_pyarrow_table()["image_id"]
    assert len(ids) == len(pc.unique(ids)) == 400


def test_new_key_columns_widen_the_table(tmp_path):
    write_slice(tmp_path, FIRST)
    finalize_slice(str(tmp_path), info(key_columns=("line",)))
    write_slice(tmp_path, SECOND, number=1)
    finalize_slice(str(tmp_path), info(slice=1, key_columns=("line", "product", "date", "lot")))
    products = {row["uri"]: row["product"] for row in rows(tmp_path, "scores")}
    assert products["s3://line/d"] is None and products["s3://line/f"] == "tile"
    assert products["s3://line/a"] is None, "rows of a rewritten file have no value for a column added later"


def test_jobs_travel_to_other_processes(tmp_path):
    import pickle

    write_slice(tmp_path, FIRST)

    def there_and_back(function, jobs):
        return [pickle.loads(pickle.dumps(function(pickle.loads(pickle.dumps(job))))) for job in jobs]

    assert finalize_slice(str(tmp_path), info(), map_fn=there_and_back).scored == 6


def test_a_score_that_is_not_finite_is_a_fault_of_ours(tmp_path):
    write_slice(tmp_path, [("none", [scored("a", float("inf"))])])
    with pytest.raises(AssertionError, match="not finite"):
        finalize_slice(str(tmp_path), info())


def test_scratch_is_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(partition.tempfile, "tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    write_slice(tmp_path / "out", FIRST)
    finalize_slice(str(tmp_path / "out"), info())
    assert not list((tmp_path / "scratch").iterdir())
    assert pa.total_allocated_bytes() < 100e6


HOSTILE = [
    *("../../escape.jpg", "/etc/x.jpg", "a\nb.jpg", "q'\"`;--.jpg", "'; drop table scores; --", "%2e%2e%2f.jpg", "a\\b.jpg"),
    *("<script>alert(1)</script>.jpg", "{lot}.jpg", "$1 ${HOME} `id`.jpg", "\u202egpj.jpg", "é.jpg", "e\u0301.jpg", "😀.jpg"),
    *("n" * 1000 + ".jpg", "nul\0.jpg", " ", "null", "NaN", "*?[].jpg", "\t\r\x7f\x01.jpg"),
]


def test_any_name_is_found_by_every_reader(tmp_path):
    """A name is a value: as member, URI, lot and key column, in tables, statistics and queries."""
    bad = [failed(f"bad {name}", uri=f"s3://line/bad {name}") for name in HOSTILE]
    shard = [scored(name, 1.0, "s3://line/x.tar", lot=name, keys=[("line", name)]) for name in HOSTILE]
    loose = [scored(f"loose {name}", 2.0, lot=name, keys=[("line", name)]) for name in HOSTILE]
    write_slice(tmp_path, [("none", bad + shard + loose)])
    counts = finalize_slice(str(tmp_path), info())
    assert (counts.scored, counts.quarantined, counts.duplicates) == (2 * len(HOSTILE), len(HOSTILE), 0)
    assert names_and_scores(tmp_path) == {n: 1.0 for n in HOSTILE} | {f"loose {n}": 2.0 for n in HOSTILE}
    database = open_tables(str(tmp_path)).connection
    delta = {name: DeltaTable(tmp_path / name) for name in ("scores", "errors")}
    frame = delta["scores"].to_pandas()
    for name in HOSTILE:
        for table, column, value, count in (
            ("scores", "member", name, 1),
            ("scores", "uri", f"s3://line/loose {name}", 1),
            ("scores", "line", name, 2),
            ("scores", "lot", name, 2),
            ("errors", "uri", f"s3://line/bad {name}", 1),
        ):
            found = database.execute(f"select count(*) from {table} where {column} = ?", [value]).fetchone()
            assert found == (count,), (column, value)
            assert delta[table].to_pyarrow_table(filters=[(column, "=", value)]).num_rows == count, (column, value)
        assert (frame["member"] == name).sum() == 1


@pytest.mark.parametrize("date", ["a\nb", "q'\"", "%2F", "..", "a=b", "a b", "é😀", "*", "d" * 64, "é" * 32, "\x7f", "none"])
def test_any_day_names_a_partition_and_no_other_folder(tmp_path, date):
    output = tmp_path / "deep" / "out"
    write_slice(output, [(date, [scored("a", 1.0), failed("b")])])
    finalize_slice(str(output), info())
    assert names_and_scores(output, date) == {"a": 1.0}
    assert open_tables(str(output)).connection.execute("select count(*) from errors where date = ?", [date]).fetchone() == (1,)
    assert [path.name for path in tmp_path.iterdir()] == ["deep"] and [p.name for p in (tmp_path / "deep").iterdir()] == ["out"]
    assert {path.name for path in output.iterdir()} == {"_flowscore", *tables.TABLES} - {"lots"}
