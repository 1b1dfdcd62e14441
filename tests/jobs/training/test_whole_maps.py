"""Models that see tiles: their map threshold is that of whole maps, and held-out images are counted, not tiles."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from scipy import ndimage
from tiny_model import BRIEF_MEMBERS

import flowscore
from jobs.command.entry import run
from jobs.command.errors import UsageError
from jobs.train import main
from jobs.training import fitting, whole_maps
from jobs.training.phases import Phases
from models.detector import FitRun
from pipeline.input.config import SourceConfig

SIDE, SPOT = 128, 6
SETTINGS = {
    "weights": "none",
    "image_size": 32,
    "aspect": "tile",
    "backbone": "test_resnet",
    "device": "cpu",
    "detector": "padim",
    "hyperparameters": {"dims": 8, "smoothing_sigma": 0.0},
    "tiles_per_image": 2,
    "selection_share": 0.5,
    "calibration_share": 0.0,
    "region_share": 0.2,
}


def surfaces(folder: Path, count: int, seed: int) -> Path:
    """Good images with one spot each, of another brightness from image to image, somewhere."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    for number in range(count):
        pixels = ndimage.gaussian_filter(rng.standard_normal((SIDE, SIDE)), 1.5) * 60 + 110
        top, left = rng.integers(0, SIDE - SPOT, 2)
        pixels[top : top + SPOT, left : left + SPOT] += rng.uniform(60, 140)
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(folder / f"{number:03}.png")
    return folder


def train(goods: Path, out: Path, **settings) -> int:
    config = out.parent / f"{out.name}.yaml"
    config.write_text(yaml.safe_dump(SETTINGS | settings))
    with pytest.raises(SystemExit) as ended:
        run(main, ["--input", str(goods), "--model-out", str(out), "--config", str(config)])
    return int(ended.value.code or 0)


@pytest.fixture(scope="module")
def goods(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return surfaces(tmp_path_factory.mktemp("whole") / "good", 48, seed=1)


def trained(folder: Path) -> dict:
    return json.loads((folder / "config.json").read_text())


def test_as_few_new_good_images_as_promised_exceed_the_threshold_whatever_tiles_are_kept(
    goods: Path, tmp_path: Path, capsys
) -> None:
    """Of an image's 25 tiles 2 are kept, which seldom show its spot: by their maxima nearly every new image had a region."""
    assert train(goods, tmp_path / "model") == 0
    threshold = trained(tmp_path / "model")["map_threshold"]
    assert (
        f"map threshold {threshold:.4g}: a new good piece exceeds it with at most 0.2, by 24 held out"
        in capsys.readouterr().out
    )
    model = flowscore.load(tmp_path / "model", device="cpu")
    new = sorted(map(str, surfaces(tmp_path / "new", 60, seed=2).iterdir()))
    exceeding = sum(float(cells.max()) > threshold for cells in model.score(new).anomaly_map)
    assert exceeding <= 0.35 * len(new)


def test_one_that_is_killed_while_whole_images_are_scored_goes_on_to_the_same_model(tmp_path: Path, monkeypatch) -> None:
    """In the second reading, and when it is over: then it is not repeated."""
    goods = surfaces(tmp_path / "some", 16, seed=4)
    csflow = BRIEF_MEMBERS["members"][0] | {"workspace": str(tmp_path / "kept"), "image_size": 64}
    assert train(goods, tmp_path / "expected", **csflow) == 0
    assert not list((tmp_path / "kept").iterdir())
    work, begin, read = Phases.work, Phases.begin, []

    def interrupted_there(phases: Phases, told) -> None:
        work(phases, told)
        if told.what == whole_maps.WHAT and told.done:
            raise KeyboardInterrupt

    def interrupted_later(phases: Phases, name: str) -> None:
        if name == "training":
            raise KeyboardInterrupt
        begin(phases, name)

    for name, stop in (("work", interrupted_there), ("begin", interrupted_later)):
        with monkeypatch.context() as patched:
            patched.setattr(Phases, name, stop)
            assert train(goods, tmp_path / "model", **csflow) == 130
    whole = fitting.whole_maxima
    monkeypatch.setattr(fitting, "whole_maxima", lambda *arguments: (read.append(1), whole(*arguments))[1])
    assert train(goods, tmp_path / "model", **csflow) == 0 and not read
    configs = [trained(tmp_path / name) for name in ("expected", "model")]
    assert configs[0] == configs[1] and configs[0]["map_threshold"] is not None
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("expected", "model")]
    assert weights[0] == weights[1]


def test_an_image_that_is_gone_is_said(goods: Path, tmp_path: Path, monkeypatch) -> None:
    whole, seen = fitting.whole_maxima, []
    monkeypatch.setattr(fitting, "whole_maxima", lambda *arguments: (seen.append(arguments), whole(*arguments))[1])
    assert train(goods, tmp_path / "model") == 0
    ((_, contents, told, detector),) = seen
    assert isinstance(told, FitRun) and len(contents) == 24
    source = SourceConfig(input_uri=str(goods))
    values = whole_maps.whole_maxima(source, [contents[1], contents[0], contents[1]], told, detector)
    assert values[0] == values[2] != values[1]
    with pytest.raises(UsageError, match="--input must be the images that were read before; 1 of 2 held-out ones must be read"):
        whole_maps.whole_maxima(source, [contents[0], "0" * 32], told, detector)


def test_two_held_out_images_of_many_tiles_neither_weigh_nor_show_how_well_defects_are_told(tmp_path: Path, capsys) -> None:
    goods = surfaces(tmp_path / "few", 20, seed=3)
    few = {"tiles_per_image": 16, "selection_share": 0.1, "image_size": 64}
    members = {"detector": "ensemble", "hyperparameters": BRIEF_MEMBERS}
    assert train(goods, tmp_path / "model", **few, **members) == 2
    assert "It holds out 2 of 2" in capsys.readouterr().err
    assert train(goods, tmp_path / "model", **few) == 0
    shown = capsys.readouterr().out
    assert "so no such figure is kept" in shown and "criterion" not in shown
    record = trained(tmp_path / "model")["trained"]
    assert (record["selection"], record["synthetic_auroc"]) == (2, {})


def test_a_flow_that_cannot_weigh_its_parts_says_how_many_images_there_are(tmp_path: Path, capsys) -> None:
    goods = surfaces(tmp_path / "few", 20, seed=3)
    csflow = BRIEF_MEMBERS["members"][0]
    head = csflow["hyperparameters"] | {"head": {"dims": 4}}
    assert train(goods, tmp_path / "model", selection_share=0.1, image_size=64, **(csflow | {"hyperparameters": head})) == 0
    assert "score: that of the flow alone; to weigh its parts takes 8 images" in (shown := capsys.readouterr().out)
    assert "and there are 2 of 2\n" in shown
