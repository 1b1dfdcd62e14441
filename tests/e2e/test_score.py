"""The scoring command on small archives: formats, resume, kills, additions, bad input."""

import random
import shutil
import signal
import subprocess
import sys
import time

import psutil
import pytest
from deltalake import DeltaTable
from e2e_archives import (
    ROOT,
    command,
    encoded,
    run_score,
    scores,
    settings,
    tree_hash,
    upload,
    with_threshold,
    write_files,
    write_parquet,
    write_tars,
)

from jobs.command.errors import UsageError
from jobs.score import prepare
from models.explain.explainer import ExplanationError
from models.maps.regions import Region, find_regions
from models.verdicts.map_threshold import map_threshold
from pipeline.decode.geometry import placement
from pipeline.decode.unit import decode_unit
from pipeline.in_process import encoded_units
from pipeline.scoring.scorer import open_scorer
from pipeline.state.ledger import Ledger
from pipeline.state.plan import read_state
from pipeline.storage.store import open_store
from pipeline.tables.query import open_tables

IMAGES = {f"{i:03d}.png": encoded(i) for i in range(50)}
FIRST = 3
"""Number of a new ledger's first slice: entries 1 and 2 create it and promote the model."""


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, model, ray_here):
    """One archive of loose files and its scores."""
    folder = tmp_path_factory.mktemp("archive")
    write_files(folder / "in", IMAGES)
    run_score(model, folder / "in", folder / "out")
    return folder


def test_every_image_once_and_all_readers_agree(uninterrupted):
    output = uninterrupted / "out"
    from_duckdb = open_tables(str(output)).connection.execute("select * from scores order by image_id").to_arrow_table()
    table = DeltaTable(str(output / "scores"))
    from_arrow = table.to_pyarrow_table().sort_by("image_id")
    from_pandas = table.to_pandas().sort_values("image_id")
    assert from_duckdb.num_rows == from_arrow.num_rows == len(from_pandas) == len(IMAGES)
    for name in from_arrow.column_names:
        assert from_duckdb[name].to_pylist() == from_arrow[name].to_pylist(), name
        if from_arrow[name].null_count == 0:
            assert from_pandas[name].tolist() == from_arrow[name].to_pandas().tolist(), name
    assert from_arrow["score"].null_count == 0
    assert set(from_arrow["verdict"].to_pylist()) == {"not_judged"}


def test_scores_equal_one_process_without_ray(uninterrupted, model, tmp_path):
    job = settings(model, uninterrupted / "in", tmp_path / "out")
    prepared = prepare(job)
    scoring = prepared.scoring(prepared.trained.digest, prepared.trained.config)
    scorer = open_scorer(model, "cpu", threads=1)
    alone = {}
    for table in encoded_units(scoring.source):
        found = scorer(decode_unit(table, scoring.decode).pixels)
        alone |= dict(zip(table["image_id"].to_pylist(), found.score.tolist(), strict=True))
    run = {image_id: score for image_id, (score, *_) in scores(uninterrupted / "out").items()}
    assert run == alone


def test_images_with_regions_are_explained(uninterrupted, model, tmp_path):
    maxima = "select m.map_offset + 255 * m.map_scale from maps m"
    highest = [value for (value,) in open_tables(str(uninterrupted / "out")).connection.execute(maxima).fetchall()]
    marking = with_threshold(model, tmp_path / "model", map_threshold(highest, range(len(highest)), share=0.3))
    run_score(marking, uninterrupted / "in", tmp_path / "out", explain="grad_cam")
    assert scores(tmp_path / "out") == scores(uninterrupted / "out")
    rows = open_tables(str(tmp_path / "out")).connection.execute(
        "select regions, map_height * map_width, octet_length(explanation), explanation_scale, explanation_offset, "
        "explanation_method from maps join scores using (image_id)"
    )
    counts = 0
    for regions, cells, length, scale, offset, method in rows.fetchall():
        assert (length, method) == ((cells, "grad_cam") if regions else (None, None))
        assert (scale is None) == (offset is None) == (not regions)
        counts += bool(regions)
    assert counts > 5


def test_an_explanation_that_cannot_be_is_refused_before_anything_starts(model, tmp_path):
    (tmp_path / "in").mkdir()
    plain = settings(with_threshold(model, tmp_path / "none", None), tmp_path / "in", tmp_path / "out", explain="gradient")
    with pytest.raises(UsageError, match="left out for a model without a map threshold"):
        prepare(plain)
    marking = with_threshold(model, tmp_path / "model", 1.0)
    with pytest.raises(ExplanationError, match="cam needs a score that is linear"):
        prepare(settings(marking, tmp_path / "in", tmp_path / "out", explain="cam"))
    assert not (tmp_path / "out").exists()


def test_a_model_with_a_map_threshold_marks_regions(uninterrupted, model, tmp_path):
    """Three of ten images have regions, the same in any process; scores and maps do not change."""
    prepared = prepare(settings(model, uninterrupted / "in", tmp_path / "out"))
    scoring = prepared.scoring(prepared.trained.digest, prepared.trained.config)
    scorer = open_scorer(model, "cpu", threads=1)
    maps = {}
    for table in encoded_units(scoring.source):
        found = scorer(decode_unit(table, scoring.decode).pixels)
        maps |= dict(zip(table["image_id"].to_pylist(), found.anomaly_map, strict=True))
    # Rank 16 of 50, so that 15 are above it.
    threshold = map_threshold([anomaly_map.max() for anomaly_map in maps.values()], list(maps), share=0.32)
    marking = with_threshold(model, tmp_path / "model", threshold)
    run_score(marking, uninterrupted / "in", tmp_path / "out")
    assert scores(tmp_path / "out") == scores(uninterrupted / "out")
    tables = open_tables(str(tmp_path / "out")).connection
    counts = dict(tables.execute("select image_id, regions from scores").fetchall())
    assert set(counts) == set(maps) and sum(count > 0 for count in counts.values()) == 15
    columns = ", ".join(Region._fields)
    for image_id, anomaly_map in maps.items():
        rows = tables.execute(f"select {columns} from regions where image_id = ? order by region", [image_id]).fetchall()
        expected = find_regions(anomaly_map, threshold, placement((72, 64), scoring.decode))
        assert counts[image_id] == len(rows) == expected.count
        assert rows == [pytest.approx(tuple(region), rel=1e-6) for region in expected.regions]
    without = open_tables(str(uninterrupted / "out")).connection
    assert without.execute("select count(*), count(regions) from scores").fetchall() == [(len(IMAGES), 0)]


@pytest.mark.parametrize("where", ["local", "s3"])
@pytest.mark.parametrize("form", ["files", "tar", "parquet"])
def test_form_and_place_do_not_change_scores(form, where, uninterrupted, model, tmp_path, request):
    write = {"files": write_files, "tar": write_tars, "parquet": write_parquet}[form]
    source = write(tmp_path / "in", IMAGES)
    if where == "s3":
        uri = request.getfixturevalue("s3_bucket")
        upload(open_store(f"{uri}/in"), source)
        source, output = f"{uri}/in", f"{uri}/out"
    else:
        output = tmp_path / "out"
    run_score(model, source, output, source={"id_column": "name"} if form == "parquet" else {})
    assert scores(output, by="content_hash") == scores(uninterrupted / "out", by="content_hash")
    query = "select coalesce(member, regexp_extract(uri, '[^/]*$')) from scores order by 1"
    assert [name for (name,) in open_tables(str(output)).connection.execute(query).fetchall()] == sorted(IMAGES)


def test_the_second_run_reads_no_image_and_changes_no_table(uninterrupted, model, tmp_path):
    folder = shutil.copytree(uninterrupted, tmp_path / "copy")
    run_score(model, folder / "in", folder / "out")  # at another URI, so these are other images
    before = {name: tree_hash(folder / "out" / name) for name in ("scores", "maps", "errors", "runs")}
    commits = tree_hash(folder / "out" / "_flowscore" / "ledgers")
    for name in list(IMAGES)[:25]:
        (folder / "in" / name).unlink()  # a second run that reads no image does not miss them
    result = run_score(model, folder / "in", folder / "out")
    assert result.published == {} and result.open == {}
    assert before == {name: tree_hash(folder / "out" / name) for name in before}
    assert commits != tree_hash(folder / "out" / "_flowscore" / "ledgers")  # only the lease's epoch has changed
    ledger = Ledger(str(folder / "out"), result.model)
    sealed = read_state(ledger)[1].slices
    assert [len(list(ledger.commits(number))) for number in sealed] == 2 * [-(-len(IMAGES) // 8)]


def test_added_and_changed_files_are_scored_and_nothing_else(model, ray_here, tmp_path):
    write_files(tmp_path / "in", {name: IMAGES[name] for name in list(IMAGES)[:20]})
    run_score(model, tmp_path / "in", tmp_path / "out")
    before = scores(tmp_path / "out")
    time.sleep(0.02)
    write_files(tmp_path / "in", {"005.png": encoded(999), "zz.png": encoded(1000), "0005.png": encoded(1001)})
    second = run_score(model, tmp_path / "in", tmp_path / "out")
    assert [counts.scored for counts in second.published.values()] == [3]
    after = scores(tmp_path / "out")
    assert len(after) == 22
    assert sum(after[image_id] == row for image_id, row in before.items()) == 19


@pytest.mark.slow
@pytest.mark.parametrize("form", ["files", "tar"])
def test_kill_9_at_seeded_moments_loses_and_doubles_nothing(form, uninterrupted, model, tmp_path):
    write = {"files": write_files, "tar": write_tars}[form]
    write(tmp_path / "in", IMAGES)
    output = tmp_path / "out"
    arguments = ["score", "--model", model, "--input", tmp_path / "in", "--output", output]
    config = tmp_path / "config.yaml"
    config.write_text("source: {unit_images: 4}\nresources: {threads: 1}\n")
    arguments += ["--config", config]
    rng = random.Random(f"kill {form}")
    commits = output / "_flowscore" / "ledgers" / "tiny" / "commits" / f"{FIRST:06d}"
    written = {}
    for _ in range(3):
        wait = rng.uniform(0.0, 1.5)
        driver = subprocess.Popen(
            [sys.executable, "-m", "jobs.cli", *map(str, arguments)],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        goal = len(written) + rng.randint(0, 2)
        limit = time.monotonic() + 90
        while driver.poll() is None and len(list(commits.glob("*.parquet"))) <= goal and time.monotonic() < limit:
            time.sleep(0.02)
        time.sleep(wait)
        family = psutil.Process(driver.pid).children(recursive=True) if driver.poll() is None else []
        driver.send_signal(signal.SIGKILL)
        driver.wait(timeout=30)
        psutil.wait_procs(family, timeout=30)
        now = {path.name: path.stat().st_mtime_ns for path in commits.glob("*.parquet")}
        assert written.items() <= now.items(), "a commit was written again"
        written = now
    command(*arguments)
    now = {path.name: path.stat().st_mtime_ns for path in commits.glob("*.parquet")}
    assert written.items() <= now.items(), "a commit was written again"
    assert scores(output, by="content_hash") == scores(uninterrupted / "out", by="content_hash")
    assert len(scores(output)) == len(IMAGES)
    (counts,) = open_tables(str(output)).connection.execute("select planned, scored, quarantined from runs").fetchall()
    assert counts == (len(IMAGES), len(IMAGES), 0)
