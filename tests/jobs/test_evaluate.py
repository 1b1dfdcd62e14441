"""`flowscore evaluate` as a user calls it: an MVTec tree of drawn surfaces, a small model."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from scipy import ndimage
from sklearn.metrics import roc_auc_score

from jobs.command.entry import run
from jobs.evaluate import main
from jobs.train import main as train_main

SMALL = {
    "weights": "none",
    "image_size": 64,
    "hyperparameters": {"hidden": 8, "whiten_dims": 8, "kernels": [3]},
    "training": {"epochs": 1, "batch_size": 4},
    "device": "cpu",
    "selection_share": 0,
    "calibration_share": 0,
}


def draw(seed: int, defective: bool, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    pixels = ndimage.gaussian_filter(rng.standard_normal(shape), 2) * 150 + 128
    mask = np.zeros(shape, np.uint8)
    if defective:
        mask[20:40, 30:55] = 255
        pixels[mask > 0] = rng.integers(0, 255, int((mask > 0).sum()))
    return np.clip(pixels, 0, 255).astype(np.uint8), mask


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 goods to train on; test: 8 goods, 6 holes and 4 cuts of several sizes; one cut has an empty mask, one none."""
    root = tmp_path_factory.mktemp("mvtec")
    shapes = [(72, 80), (100, 64), (64, 150)]
    rows = []
    for kind, count, start in (("train/good", 12, 0), ("test/good", 8, 100), ("test/hole", 6, 200), ("test/cut", 4, 300)):
        for number in range(count):
            pixels, mask = draw(start + number, "good" not in kind, shapes[number % 3])
            path = root / kind / f"{number:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
            rows.append((str(path.relative_to(root)), f"piece{number // 2}-{kind}"))
            if "good" not in kind and (kind, number) != ("test/cut", 3):
                target = root / "ground_truth" / path.parent.name / f"{number:03d}_mask.png"
                target.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(mask * ((kind, number) != ("test/cut", 2))).save(target)
    with open(root / "pieces.csv", "w", newline="") as file:
        csv.writer(file).writerows([("path", "piece"), *rows])
    return root


@pytest.fixture(scope="module", params=["squash", "keep", "tile"])
def model(request: pytest.FixtureRequest, tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    config = folder / "train.yaml"
    config.write_text(yaml.safe_dump(SMALL | {"aspect": request.param}))
    flags = ["--input", str(tree / "train" / "good"), "--model-out", str(folder / "m"), "--config", str(config)]
    with pytest.raises(SystemExit) as ended:
        run(train_main, flags)
    assert not ended.value.code
    return folder / "m"


def evaluate(*flags: str) -> int:
    with pytest.raises(SystemExit) as ended:
        run(main, list(flags))
    return int(ended.value.code or 0)


def test_figures_counts_and_table(tree: Path, model: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "deep" / "figures.json"
    flags = ("--model", str(model), "--input", str(tree), "--json", str(out), "--groups", str(tree / "pieces.csv"))
    assert evaluate(*flags) == 0
    report = json.loads(out.read_text())
    assert report["images"] == {"cut": 4, "good": 8, "hole": 6} and report["defects_without_mask"] == 1
    assert list(report["figures"]) == ["all", "cut", "hole"]
    assert "group of pieces.csv" in report["interval"]
    labels = [image["defect_type"] != "good" for image in report["scores"]]
    scores = [image["score"] for image in report["scores"]]
    found = report["figures"]["all"]
    assert found["image_auroc"]["value"] == pytest.approx(roc_auc_score(labels, scores))
    assert set(found) == {
        *("image_auroc", "average_precision", "f1_max"),
        *("pixel_auroc", "pixel_average_precision", "pixel_f1_max", "aupro"),
    }
    for figure in found.values():
        assert 0 <= figure["low"] <= figure["high"] <= 1
    shown = capsys.readouterr().out
    assert "image AUROC" in shown and "hole" in shown and "AUPRO" in shown


def test_without_groups_the_interval_says_by_image(tree: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    assert evaluate("--model", str(model), "--input", str(tree), "--json", str(out)) == 0
    assert json.loads(out.read_text())["interval"].endswith("by image")


def test_what_cannot_work_is_one_sentence(tree: Path, model: Path, tmp_path: Path, capsys) -> None:
    assert evaluate("--model", str(model), "--input", str(tmp_path)) == 2
    assert "MVTec layout" in capsys.readouterr().err
    assert evaluate("--model", str(tmp_path / "none"), "--input", str(tree)) == 2
    assert "artifact's directory" in capsys.readouterr().err
    short = tmp_path / "short.csv"
    short.write_text("path,piece\ntest/good/000.png,a\n")
    assert evaluate("--model", str(model), "--input", str(tree), "--groups", str(short)) == 2
    assert "a table that has every image" in capsys.readouterr().err
