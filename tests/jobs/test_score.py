"""What the driver of a scoring run imports, which it waits for before it does anything; and what it checks first."""

import json
import subprocess
import sys
from datetime import datetime

import pytest
from docs_script import load
from tiny_model import tiny_config, tiny_fitted

from jobs.command.entry import run
from jobs.score import ScoringProgress, main
from models import artifact
from models.config import InputConfig
from pipeline.run import RunProgress
from pipeline.state.ledger import Ledger
from pipeline.tables.query import open_tables
from schemas.outcome import Outcome


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


def test_a_decoder_on_the_gpu_is_refused_where_it_cannot_be(capsys, tmp_path, monkeypatch):
    """decoder: cuda, where a CPU scores or may score, where no GPU is, and for a model that scores by tiles. Nothing is planned
    then: a slice would wait for a GPU for good."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    config = tiny_config(input=InputConfig(height=64, width=96, resize="tile"))
    artifact.save(tmp_path / "model", config, tiny_fitted(config), "# card\n")
    (tmp_path / "in").mkdir()
    (tmp_path / "config.yaml").write_text("decoder: cuda\n")
    for device, has_gpu, said in (
        ("cpu", False, "decoder must be cpu where device is cpu; got 'cuda'"),
        ("auto", False, "decoder must be cpu where device is auto; got 'cuda'"),
        ("cuda", False, "device must be one that this machine has; got device='cuda'"),
        ("cuda", True, "decoder must be cpu for a model that scores by tiles; got 'cuda'"),
    ):
        monkeypatch.setattr("torch.cuda.is_available", lambda has_gpu=has_gpu: has_gpu)
        places = ["--model", str(tmp_path / "model"), "--input", str(tmp_path / "in"), "--output", str(tmp_path / "out")]
        with pytest.raises(SystemExit) as ended:
            run(main, [*places, "--device", device, "--config", str(tmp_path / "config.yaml")])
        shown = capsys.readouterr().err
        assert ended.value.code == 2 and said in shown and "Traceback" not in shown
        assert not (tmp_path / "out" / "_flowscore").exists()


def test_runs_say_of_a_resumed_slice_when_it_began_and_what_all_drivers_spent(tmp_path):
    logs = load("make_logs.py")
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
            progress.finished = True
            shown(progress)
    first, ended, other, last = [line.partition(" ")[2] for line in capsys.readouterr().err.splitlines()]
    assert first == "tiles slice 3: scoring: 0 more images, 0%, 0 more in errors"
    assert ended.startswith("tiles slice 3: scoring: 20/20 more images, 100%") and "1 more in errors, took" in ended
    assert other == "tiles slice 4: scoring: 0 images, 0%, 0 in errors"
    assert last.startswith("tiles slice 4: scoring: 20/20 images, 100%") and "1 in errors, took" in last
