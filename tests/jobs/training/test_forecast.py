"""What `train` says before it starts, held against what it takes."""

import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from tiny_model import BRIEF_MEMBERS

from jobs.command.entry import run
from jobs.train import main
from jobs.training import forecast
from jobs.training.forecast import Sizes, Taken, compared, sized
from models import registry
from models.features.store import StoredRows

GOODS = 24
MEMORY_FACTOR = 1.5
ARENAS = 100_000_000  # what the allocator keeps for later, bytes


@pytest.fixture
def goods(tmp_path: Path) -> Path:
    folder = tmp_path / "good"
    folder.mkdir()
    for number in range(GOODS):  # noise: no two are near-duplicates
        pixels = np.random.default_rng(number).integers(0, 256, (64, 64), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02}.png")
    return folder


def train(goods: Path, detector: str, *flags: str, **settings) -> int:
    brief = {"padim": {}, "patchcore": {}, "ensemble": {}, "differnet": {"epochs": 2}}.get(
        detector, {"epochs": 2, "epoch_steps": 3}
    )
    own = {"hyperparameters": BRIEF_MEMBERS} if detector == "ensemble" else {}
    config = (
        {"weights": "none", "image_size": 64, "backbone": "test_resnet", "device": "cpu", "training": brief} | own | settings
    )
    path = goods.parent / "train.yaml"
    path.write_text(yaml.safe_dump(config))
    arguments = ["--input", str(goods), "--model-out", str(goods.parent / "model"), "--detector", detector]
    with pytest.raises(SystemExit) as ended:
        run(main, [*arguments, "--config", str(path), *flags])
    return int(ended.value.code or 0)


LIGHT = {"light": 0.4, "light_copies": 2, "criterion_light": 0.4}


@pytest.mark.parametrize(
    ("detector", "light"), [*((name, {}) for name in registry.names()), ("fastflow", LIGHT), ("padim", LIGHT)]
)
def test_features_are_said_to_the_byte_and_memory_within_a_factor(
    detector: str, light: dict, goods: Path, capsys, monkeypatch
) -> None:
    figures: list[Taken] = []
    files: dict[str, int] = {}
    close = StoredRows.close

    def measured(rows: StoredRows) -> None:
        if rows._path.name != "rows.bin":  # of DifferNet's fit
            files[rows._path.name] = rows._path.stat().st_size
        close(rows)

    monkeypatch.setattr(StoredRows, "close", measured)
    monkeypatch.setattr(forecast, "compared", lambda *both: figures.extend(both) or compared(*both))
    share = "0.4" if detector == "ensemble" else "0.3"  # which needs more held-out images
    assert train(goods, detector, "--selection-share", share, **light) == 0
    said, took = figures
    assert said.features == took.features == sum(files.values()) and "synthetic-pixels.bin" in files
    assert took.memory / MEMORY_FACTOR - ARENAS < said.memory < took.memory * MEMORY_FACTOR + ARENAS
    shown = capsys.readouterr().out
    features = re.escape(sized(said.features))
    assert re.search(rf"^takes about .* on this device, less if the .*; {features} of features in /", shown, re.MULTILINE)
    assert f"{sized(said.memory)} of memory\n" in shown
    assert re.search(rf"^said .*, {features} of features, .* of memory; took .*, {features}, ", shown, re.MULTILINE)


@pytest.mark.parametrize("workspace", [False, True])
def test_a_disk_without_room_is_one_line_before_anything_is_written(goods: Path, capsys, monkeypatch, workspace: bool) -> None:
    kept = goods.parent / "kept"
    usage = forecast.shutil.disk_usage(goods)
    monkeypatch.setattr(forecast.shutil, "disk_usage", lambda place: usage._replace(free=100_000))
    monkeypatch.setattr(StoredRows, "append", lambda *arguments: pytest.fail("written"))
    assert train(goods, "csflow", *(("--workspace", str(kept)) if workspace else ())) == 2
    shown = capsys.readouterr().err
    field = (
        f"--workspace must be a folder on a disk with room for .* of features; got '{kept}'" if workspace else "TMPDIR must be"
    )
    assert re.search(field, shown) and "0 MB are free there: make room" in shown and "Traceback" not in shown
    assert not (goods.parent / "model").exists() and "reading" not in shown
    assert not workspace or not list(kept.iterdir())


@pytest.mark.parametrize("detector", ["fastflow", "padim"])
def test_too_little_memory_is_one_warning(goods: Path, capsys, monkeypatch, detector: str) -> None:
    monkeypatch.setattr(forecast, "room_bytes", lambda: 1_000_000)
    assert train(goods, detector, "--selection-share", "0") == 0
    warnings = [line for line in capsys.readouterr().out.splitlines() if line.startswith("memory may not suffice: ")]
    assert len(warnings) == 1 and "this machine has 1 MB for it" in warnings[0]


def test_a_repeated_command_says_what_is_left_at_most(goods: Path, capsys, monkeypatch) -> None:
    flags = ("--workspace", str(goods.parent / "kept"), "--selection-share", "0")
    with monkeypatch.context() as patched:
        patched.setattr("jobs.training.phases.Phases.step", lambda *arguments: (_ for _ in ()).throw(KeyboardInterrupt))
        assert train(goods, "fastflow", *flags) == 130
    assert "takes about" in capsys.readouterr().out
    assert train(goods, "fastflow", *flags) == 0
    assert re.search(r"takes at most about .* on this device; ", capsys.readouterr().out)


def test_pages_of_files_are_memory_that_the_system_may_drop() -> None:
    """1,000 samples, 700 to fit and 100 for selection, of which 800 defects are drawn."""
    sizes = Sizes(1_000, 700, 100, pixel_bytes=10, kept_bytes=110)
    assert sizes.on_disk() == 1_800 * 110
    assert sizes.mapped(reads_often=True) == 1_600 * 100 + 100 * 10
    lit = sizes._replace(copies=2, lit=True)
    assert lit.on_disk() == (1_800 + 2 * 800 + 100) * 110
    assert lit.mapped(reads_often=True) == (1_600 + 2 * 800 + 100) * 100 + 100 * 10
    assert Sizes(1_000, 700, 100, 10, 10).mapped(reads_often=False) == 1_600 * 10 + 100 * 10


def test_the_comparison_is_one_line() -> None:
    said, took = Taken(185.2, 1_200_000_000, 2_100_000_000, None), Taken(161, 1_200_000_000, 2_000_000_000, None)
    assert compared(said, took) == "said 3 min 05 s, 1.2 GB of features, 2.1 GB of memory; took 2 min 41 s, 1.2 GB, 2.0 GB"
    with_gpu = compared(said._replace(gpu=4_000_000_000), took._replace(gpu=3_900_000_000))
    assert with_gpu.endswith("2.1 GB of memory, 4.0 GB of GPU memory; took 2 min 41 s, 1.2 GB, 2.0 GB, 3.9 GB")
