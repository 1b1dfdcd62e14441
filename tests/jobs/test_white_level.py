"""A camera's white level is given to `train`, kept in the model and used by every later command; `score` may set another."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from scipy import ndimage

from jobs.command.entry import run
from jobs.score import ScoreSettings, prepare
from jobs.train import main
from models import artifact
from pipeline.decode.config import DecodeConfig
from schemas.plan import PlannedObject, UnitContent

SMALL = {
    "weights": "none",
    "image_size": 64,
    "hyperparameters": {"hidden": 8, "whiten_dims": 8, "kernels": [3, 1]},
    "training": {"epochs": 1, "batch_size": 4},
    "device": "cpu",
}


def settings(tmp_path: Path, **more: Any) -> ScoreSettings:
    where = {
        "model": str(tmp_path / "model"),
        "input": str(tmp_path / "good"),
        "output": str(tmp_path / "out"),
        "device": "cpu",
    }
    return ScoreSettings(**where, **more)


def ended(*flags: str) -> int:
    with pytest.raises(SystemExit) as found:
        run(main, list(flags))
    return int(found.value.code or 0)


def test_the_model_keeps_it_and_scoring_uses_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "good"
    folder.mkdir()
    for number in range(12):
        noise = ndimage.gaussian_filter(np.random.default_rng(number).standard_normal((64, 64)), 2) * 2400 + 2048
        Image.fromarray(np.clip(noise, 0, 4095).astype(np.uint16)).save(folder / f"{number}.tif")
    (tmp_path / "train.yaml").write_text(yaml.safe_dump(SMALL))
    where = ["--input", str(folder), "--model-out", str(tmp_path / "model"), "--config", str(tmp_path / "train.yaml")]
    assert ended(*where, "--white-level", "4095") == 0
    assert "--white-level" not in capsys.readouterr().out
    kept = artifact.read(tmp_path / "model").config.input
    assert kept.white_level == 4095 and DecodeConfig.of(kept).white_level == 4095
    runs = [prepare(settings(tmp_path, **more)) for more in ({}, {"white_level": 4095}, {"white_level": 1023})]
    found = [run.scoring(run.trained.digest, run.trained.config) for run in runs]
    assert [scoring.decode.white_level for scoring in found] == [4095, 4095, 1023]
    content = UnitContent(source="files", date="none", objects=(PlannedObject("a.tif", 1, "e"),), images=1, size=1)
    ids = [scoring.unit_id(content, 3) for scoring in found]
    assert ids[0] == ids[1] != ids[2]
    assert ended(*where, "--white-level", "100") == 2
    assert "white_level" in capsys.readouterr().err
