"""A new detector is one file: the commands train, score and evaluate a toy one that is dropped into models/detectors."""

import io
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from e2e_archives import ROOT, encoded, picture, write_files

from models import registry

TOY = '''"""Distance of colours from the training images' mean colour, place by place."""

import torch
from pydantic import BaseModel, ConfigDict

from models.detector import Detector, Scored


class Training(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def build(config):
    return Toy(config)


class Toy(Detector):
    Training = Training
    reads_often = False

    def __init__(self, config):
        super().__init__()
        grid = (config.input.height // 8, config.input.width // 8)
        size = {"map_height": config.map_height or grid[0], "map_width": config.map_width or grid[1]}
        self.config = config.model_copy(update={"backbone": None, **size})
        self.register_buffer("mean", torch.zeros(3, *grid))

    def prepare(self, images):
        return images.permute(0, 3, 1, 2).float() / 255  # (B, 3, H, W)

    def features(self, inputs):
        return [torch.nn.functional.adaptive_avg_pool2d(inputs, tuple(self.mean.shape[1:]))]

    def _fit(self, features, positions, run):
        total = sum(features.read(batch)[0].double().sum(0) for batch in positions.split(16))
        self.mean.copy_(total / len(positions))

    def score_features(self, maps):
        distance = (maps[0] - self.mean).square().sum(1)
        return Scored(distance.mean(dim=(1, 2)), distance, maps[0].flatten(1)[:, :32].half())
'''


@pytest.fixture
def copy(tmp_path):
    """The repository's packages with one more file."""
    root = tmp_path / "copy"
    for package in ("schemas", "models", "pipeline", "jobs"):
        shutil.copytree(ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__"))
    (root / "models" / "detectors" / "toy.py").write_text(TOY, encoding="utf-8")
    return root


def marked(seed):
    """A surface with a white square over an eighth of it, as PNG bytes."""
    image = picture(7 * seed + 3)
    image.paste((255, 255, 255), (20, 20, 44, 44))
    sink = io.BytesIO()
    image.save(sink, "PNG")
    return sink.getvalue()


def test_one_file_is_all_that_a_detector_needs(copy, tmp_path):
    assert "toy" not in registry.names()
    goods = write_files(tmp_path / "good", {f"{i:03d}.png": encoded(7 * i + 1) for i in range(24)})
    tree = tmp_path / "tree"
    write_files(tree / "test" / "good", {f"{i:03d}.png": encoded(7 * i + 3) for i in range(100, 106)})
    write_files(tree / "test" / "scratch", {f"{i:03d}.png": marked(i) for i in range(100, 106)})
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(copy)}

    def command(*arguments):
        line = [sys.executable, "-m", "jobs.cli", *map(str, arguments)]
        done = subprocess.run(line, cwd=copy, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    model = tmp_path / "model"
    output = command(
        *("train", "--detector", "toy", "--input", goods, "--model-out", model),
        *("--image-size", "64", "--device", "cpu", "--calibration-share", "0", "--selection-share", "0.2"),
    )
    assert "synthetic defects" in output
    config = json.loads((model / "config.json").read_text())
    assert config["name"] == config["detector"] == "toy" and config["trained"]["epochs"] is None
    command("score", "--model", model, "--input", tree / "test", "--output", tmp_path / "out")
    files = DeltaTable(str(tmp_path / "out" / "scores")).file_uris()
    rows = [row for path in files for row in pq.ParquetFile(path).read().to_pylist()]
    assert len(rows) == 12 and all(np.isfinite(row["score"]) for row in rows)
    command("evaluate", "--model", model, "--input", tree, "--json", tmp_path / "figures.json")
    figures = json.loads((tmp_path / "figures.json").read_text())["figures"]["all"]
    assert figures["image_auroc"]["value"] == 1.0
