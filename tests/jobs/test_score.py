"""What the driver of a scoring run imports, which it waits for before it does anything; and what it checks first."""

import json
import subprocess
import sys
import threading
from datetime import datetime

import docs_script
import numpy as np
import pytest
from published_rows import new_ledger, seal_slice
from tiny_model import tiny_config, tiny_fitted

from jobs.command.config import ConfigError, load
from jobs.command.entry import run
from jobs.command.errors import UsageError
from jobs.score import ScoringProgress, joined, main, prepare
from jobs.settings.scoring import ScoreSettings
from models import artifact
from models.config import InputConfig
from models.roi.region import RegionOfInterest
from pipeline.run import RunProgress
from pipeline.stages.engine import RayEngine
from pipeline.state.ledger import Ledger
from pipeline.storage import local
from pipeline.storage.store import open_store
from pipeline.tables.query import open_tables
from schemas.outcome import Outcome

PATTERN = "{line}/{date}/{lot}/{name}"


@pytest.mark.parametrize(
    ("module", "absent"),
    [("jobs.score", {"torch", "timm", "scipy", "pandas", "ray"}), ("pipeline.stages.dataset", {"torch", "timm"})],
)
def test_what_is_slow_to_import_comes_with_what_needs_it(module, absent):
    code = f"import sys, {module}; print(*{absent!r} & sys.modules.keys())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--address", "127.0.0.1:1"), "error: address must be that of a Ray cluster that runs; got '127.0.0.1:1'"),
        (("--address", "http://127.0.0.1:8265"), "error: address must be host:port of the head"),
        (("--output", "out/o%20x"), "error: output must be a place whose name Delta tables can have; got 'out/o%20x'"),
    ],
)
def test_surroundings_are_checked_before_anything_is_opened(capsys, monkeypatch, flags, said):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(SystemExit) as ended:
        run(main, ["--model", "/none", "--input", "/none", "--output", "/none/out", *flags])
    shown = capsys.readouterr().err
    assert ended.value.code == 2 and shown.startswith(said) and shown.count("\n") == 1


def test_the_cluster_s_nodes_get_the_listing_of_the_run(tmp_path, monkeypatch):
    config, given = tiny_config(), []
    artifact.save(tmp_path / "model", config, tiny_fitted(config), "# card\n")
    listing = tmp_path / "listing.csv"
    listing.write_text("key,size,etag\n")
    settings = ScoreSettings(
        model=str(tmp_path / "model"), input=str(tmp_path), output=str(tmp_path.parent / "out"), listing=listing
    )
    monkeypatch.setattr(RayEngine, "join", lambda self, *run: given.append(run))
    run = prepare(settings)
    joined(settings, run)
    assert run.listing is not None and given == [(run.source, run.ledger, run.listing)]


def test_a_decoder_on_the_gpu_is_refused_where_it_cannot_be(capsys, tmp_path, monkeypatch):
    """decoder: cuda, where a CPU scores or may score, where no GPU is, and for a model that scores by tiles or has a region of
    interest. Nothing is planned then: a slice would wait for a GPU for good."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    roi = RegionOfInterest.of(np.eye(64, 96, dtype=bool))
    for place, input in (("model", {"resize": "tile"}), ("with-roi", {"roi": roi})):
        config = tiny_config(input=InputConfig(height=64, width=96, **input))
        artifact.save(tmp_path / place, config, tiny_fitted(config), "# card\n")
    (tmp_path / "in").mkdir()
    (tmp_path / "config.yaml").write_text("decoder: cuda\n")
    for model, device, has_gpu, said in (
        ("model", "cpu", False, "decoder must be cpu where device is cpu; got 'cuda'"),
        ("model", "auto", False, "decoder must be cpu where device is auto; got 'cuda'"),
        ("model", "cuda", False, "device must be one that this machine has; got device='cuda'"),
        ("model", "cuda", True, "decoder must be cpu for a model that scores by tiles; got 'cuda'"),
        ("with-roi", "cuda", True, "decoder must be cpu for a model with a region of interest; got 'cuda'"),
    ):
        monkeypatch.setattr("torch.cuda.is_available", lambda has_gpu=has_gpu: has_gpu)
        places = ["--model", str(tmp_path / model), "--input", str(tmp_path / "in"), "--output", str(tmp_path / "out")]
        with pytest.raises(SystemExit) as ended:
            run(main, [*places, "--device", device, "--config", str(tmp_path / "config.yaml")])
        shown = capsys.readouterr().err
        assert ended.value.code == 2 and said in shown and "Traceback" not in shown
        assert not (tmp_path / "out" / "_flowscore").exists()


@pytest.fixture
def prepared(tmp_path, monkeypatch, capsys):
    """What `prepare` prints for a tiny model and images of these names, or its error."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    config = tiny_config()
    artifact.save(tmp_path / "model", config, tiny_fitted(config), "# card\n")

    def call(names, **options):
        for name in names:
            (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "in" / name).write_bytes(b"x")
        places = {name: str(tmp_path / name) for name in ("model", "input", "output")} | {"input": str(tmp_path / "in")}
        try:
            prepare(load(ScoreSettings, None, **places, device="cpu", **options))
        except (UsageError, ConfigError) as error:
            return str(error)
        return capsys.readouterr().out

    return call


def test_a_key_pattern_is_tried_before_anything_is_planned(prepared, tmp_path):
    assert prepared(["3/2024-06-03/L1/a.png"], key_pattern=PATTERN) == (
        f"key pattern {PATTERN}: 1 of 1 paths match\n  3/2024-06-03/L1/a.png: line 3, date 2024-06-03, lot L1\n"
    )
    said = prepared([], key_pattern="{hall}/" + PATTERN)
    assert (
        said.startswith("key_pattern must be a pattern of the paths below")
        and "'{hall}/{date}/{line}/{name}' would fit" in said
    )
    assert prepared([]) == "" and not [path for path in (tmp_path / "output").rglob("*") if path.is_file()]


def test_a_pattern_that_a_night_took_is_not_refused_later(prepared, tmp_path):
    """Another night must not fail because of what somebody has put first."""
    ledger = new_ledger(tmp_path / "output", PATTERN, tiny_config().name)
    said = prepared(["a.png"], key_pattern=PATTERN)
    assert said.startswith("key_pattern must be a pattern of the paths below")
    seal_slice(ledger, f"file://{tmp_path}/in")
    said = prepared([], key_pattern=PATTERN)
    assert said.startswith(
        f"warning: key pattern {PATTERN}: none of 1 paths matches, such as a.png: its key columns stay empty"
    )


def test_a_ready_listing_is_what_the_pattern_is_tried_on(prepared, tmp_path):
    listed = open_store(tmp_path / "in")
    listed.put("3/2024-06-03/L1/a.png", b"x")
    (entry,) = listed.list()
    (tmp_path / "l.csv").write_text(f"key,size,etag\n{entry.key},{entry.size},{entry.etag}\n")
    said = prepared(["a.png"], key_pattern=PATTERN, listing=str(tmp_path / "l.csv"))
    assert said.startswith(f"key pattern {PATTERN}: 1 of 1 paths match\n")


def test_links_that_are_not_followed_are_said_once(prepared, tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(local.log, "warning", lambda text, *values: said.append(text % values))
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link").symlink_to("/nowhere")
    prepared(["3/2024-06-03/L1/a.png"], key_pattern=PATTERN)
    prepared([], key_pattern=PATTERN)
    assert len(said) == 1 and said[0].startswith("1 links below")


def test_a_date_that_is_no_day_is_refused_until_nights_were_planned(prepared, tmp_path):
    """A plant that has its weeks as dates goes on."""
    assert prepared(["a.png"], date="W23").startswith("date must be a day such as 2024-06-03; got 'W23'.")
    seal_slice(new_ledger(tmp_path / "output", None, tiny_config().name), f"file://{tmp_path}/in")
    assert prepared([], date="W24").startswith("warning: date 'W24' is not a day such as 2024-06-03: it is kept as text")


def test_runs_say_of_a_resumed_slice_when_it_began_and_what_all_drivers_spent(tmp_path):
    logs = docs_script.load("make_logs.py")
    plant = logs.Plant(tmp_path)
    logs.after_a_kill(plant)
    ledger = Ledger(str(tmp_path / "results"), "tiles")
    noted = [json.loads(ledger.store.get(each.key)) for each in ledger.store.list(f"{ledger.prefix}/attempts/000003/")]
    columns = "attempts, epoch(started_at), spent_s, epoch(finished_at)"
    asked = open_tables(ledger.output_uri).connection.execute(f"select {columns} from runs where slice = 3")
    ((drivers, started, spent_s, finished),) = asked.fetchall()
    begun = [datetime.fromisoformat(each["started_at"]).timestamp() for each in noted]
    assert drivers == len(noted) == 2 and begun[0] < begun[1]
    assert started == pytest.approx(begun[0], rel=0, abs=1e-3)
    assert spent_s == pytest.approx(sum(each["spent_s"] for each in noted))
    assert 0 < spent_s < finished - started


def test_progress_of_archives_that_go_on_counts_what_this_command_does(capsys):
    """How many images an earlier command read of an archive is known at the end only."""
    with ScoringProgress() as shown:
        for number, goes_on in ((3, True), (4, False)):
            progress = RunProgress(f"tiles slice {number}", goes_on, streams=1, size=1000)
            shown(progress)
            progress.take(Outcome(0, 1, scored=19, errors=1, bytes_read=1000))
            progress.ended = progress.finished = True
            shown(progress)
    first, ended, other, last = [line.partition(" ")[2] for line in capsys.readouterr().err.splitlines()]
    assert first == "tiles slice 3: scoring: 0 more images, 0%, 0 more in errors"
    assert ended.startswith("tiles slice 3: scoring: 20/20 more images, 100%") and "1 more in errors, took" in ended
    assert other == "tiles slice 4: scoring: 0 images, 0%, 0 in errors"
    assert last.startswith("tiles slice 4: scoring: 20/20 images, 100%") and "1 in errors, took" in last


def test_a_slice_that_stays_open_is_no_longer_said_to_be_scored(capsys):
    """A thread would say "scoring: still at work" while the next slice is planned and the tables are written."""
    progress = RunProgress("tiles slice 3", planned=24)
    with ScoringProgress() as shown:
        shown(progress)
        assert "flowscore-ticker" in [thread.name for thread in threading.enumerate()]
        progress.take(Outcome(0, 0, scored=8))
        progress.take(Outcome(1, 0, message="no answer"))
        progress.ended = True
        shown(progress)
        assert "flowscore-ticker" not in [thread.name for thread in threading.enumerate()]
    first, last = [line.partition(" ")[2] for line in capsys.readouterr().err.splitlines()]
    assert first == "tiles slice 3: scoring: 0/24 images, 0%, 0 in errors"
    assert last.startswith("tiles slice 3: scoring: 8/24 images, 33%, ")
