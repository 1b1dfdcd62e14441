"""`flowscore explain` as a user calls it: drawn surfaces with a spot, a small model."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from scipy import ndimage

from jobs.command.entry import run
from jobs.explain import _images, main
from jobs.pages.explanation_picture import HEAD_PX
from jobs.train import main as train_main
from models import artifact
from models.calibration import in_folder
from models.calibration.example import calibration
from models.maps.map_scale import MapScale

SMALL = {
    "weights": "none",
    "backbone": "test_resnet",
    "image_size": 64,
    "hyperparameters": {"hidden": 8, "whiten_dims": 8, "kernels": [3]},
    "training": {"epochs": 1, "batch_size": 4},
    "precision": "bf16",
    "device": "cpu",
    "selection_share": 0,
    "calibration_share": 0,
}
METHODS = ["gradient", "guided_backprop", "grad_cam", "guided_grad_cam"]


def surface(seed: int, spot: bool) -> Image.Image:
    rng = np.random.default_rng(seed)
    pixels = ndimage.gaussian_filter(rng.standard_normal((72, 80)), 2) * 150 + 128
    if spot:
        pixels[20:36, 40:60] = 255
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("explain")
    for folder, count in (("good", 12), ("bad", 3)):
        (root / folder / "a").mkdir(parents=True)
        for number in range(count):
            surface(number + 100 * (folder == "bad"), folder == "bad").save(root / folder / "a" / f"{number}.png")
    (root / "train.yaml").write_text(yaml.safe_dump(SMALL))
    flags = ["--input", str(root / "good"), "--model-out", str(root / "m"), "--config", str(root / "train.yaml")]
    with pytest.raises(SystemExit) as ended:
        run(train_main, flags)
    assert not ended.value.code
    return root


def explain(place: Path, source: str, output: Path, *flags: str) -> int:
    arguments = ["--model", str(place / "m"), "--input", str(place / source), "--output", str(output), *flags]
    with pytest.raises(SystemExit) as ended:
        run(main, arguments)
    return int(ended.value.code or 0)


def test_a_folder_by_every_method(place: Path, tmp_path: Path, capsys) -> None:
    (place / "bad" / "notes.png").write_text("no image")
    assert explain(place, "bad", tmp_path / "out", "--good", str(place / "good")) == 0
    shown = capsys.readouterr().out.splitlines()
    assert "the model scores in bf16; explanations and their scores are computed in float32" in shown
    assert any(line.startswith("cam left out: method must suit the detector") for line in shown)
    assert any(line.startswith("notes.png left out: the bytes are no JPEG") for line in shown)
    lines = [line for line in shown if "  score " in line]
    assert len(lines) == 3 * (1 + len(METHODS)) and lines[0].startswith("a/0.png  score ") and "anomaly_map: " in lines[0]
    report = json.loads((tmp_path / "out" / "explanations.json").read_text())
    assert report["layer"] == "deepest tap" and list(report["not_defined"]) == ["cam"]
    assert list(report["unreadable"]) == ["notes.png"]
    assert [image["image"] for image in report["images"]] == ["a/0.png", "a/1.png", "a/2.png"]
    for image in report["images"]:
        assert image["filling"].startswith("good image") and image["score_deleted"] < image["score"]
        assert image["maps"][0]["deletion_auc"] < image["maps"][0]["random_auc"]
        assert [each["method"] for each in image["maps"]] == ["anomaly_map", *METHODS]
        assert len({each["random_auc"] for each in image["maps"]}) == 1
        for each in image["maps"]:
            assert (each["deletion_auc"] is None) == (image["score"] <= image["score_deleted"])
            with Image.open(tmp_path / "out" / each["picture"]) as picture:
                assert picture.width > 2 * 320 and picture.height > 320
    colours = report["colours"]
    assert list(colours) == ["anomaly_map", *METHODS] and all(each["low"] < each["high"] for each in colours.values())
    assert colours["gradient"]["basis"] == "lowest to 99.8 % of the 3 pictures by gradient"
    low, high = (f"{colours['anomaly_map'][end]:.3g}" for end in ("low", "high"))
    assert f"anomaly_map: one colour scale for all pictures, {low} to {high}, lowest to 99.8 %" in "\n".join(shown)
    pictures = {each["picture"] for image in report["images"] for each in image["maps"]}
    assert {path.name for path in (tmp_path / "out").iterdir()} == pictures | {"explanations.json"}
    assert "000-a_0.png.grad_cam.png" in pictures


def test_the_models_own_map_is_drawn_on_the_scale_of_its_calibration(place: Path, tmp_path: Path, capsys) -> None:
    """The scale does not depend on what is explained; gradients have none of the model's."""
    shutil.copytree(place / "m", tmp_path / "m")
    made = replace(calibration(pieces=60), model_digest=artifact.read(tmp_path / "m").model_digest)
    in_folder.put(tmp_path / "m", replace(made, map_scale=MapScale(0.5, 1.5)))
    for name, source in (("all", "bad"), ("one", "bad/a/1.png")):
        flags = ["--model", str(tmp_path / "m"), "--input", str(place / source), "--output", str(tmp_path / name)]
        with pytest.raises(SystemExit) as ended:
            run(main, [*flags, "--method", "gradient"])
        assert not ended.value.code
        assert (
            "anomaly_map: one colour scale for all pictures, 0.5 to 1.5, 50 to 99.9 % of good images" in capsys.readouterr().out
        )
        colours = json.loads((tmp_path / name / "explanations.json").read_text())["colours"]
        assert colours["anomaly_map"] == {"low": 0.5, "high": 1.5, "basis": "50 to 99.9 % of good images"}
        assert "by gradient" in colours["gradient"]["basis"]
    one, all_of_them = tmp_path / "one" / "000-1.png.anomaly_map.png", tmp_path / "all" / "001-a_1.png.anomaly_map.png"
    with Image.open(one) as first, Image.open(all_of_them) as second:
        assert (np.asarray(first)[HEAD_PX:] == np.asarray(second)[HEAD_PX:]).all()


def test_one_image_one_method_one_layer(place: Path, tmp_path: Path, capsys) -> None:
    source = "bad/a/1.png"
    assert explain(place, source, tmp_path / "deep" / "out", "--method", "grad_cam", "--layer", "layer1.0.conv1") == 0
    assert "grad_cam" in capsys.readouterr().out
    report = json.loads((tmp_path / "deep" / "out" / "explanations.json").read_text())
    (image,) = report["images"]
    assert image["image"] == "1.png" and [each["method"] for each in image["maps"]] == ["anomaly_map", "grad_cam"]
    assert image["maps"][1]["layer"] == "layer1.0.conv1" and image["maps"][0]["layer"] is None
    assert image["filling"] in ("blur 1/32", "blur 1/8", "mean colour")


def test_a_limit_takes_the_first_by_name(place: Path, tmp_path: Path, capsys) -> None:
    settings = tmp_path / "explain.yaml"
    settings.write_text(yaml.safe_dump({"deletion": {"steps": 3, "random_orders": 1}, "method": "gradient"}))
    assert explain(place, "good", tmp_path / "out", "--limit", "2", "--config", str(settings)) == 0
    assert "12 files; the first 2 by name" in capsys.readouterr().out
    report = json.loads((tmp_path / "out" / "explanations.json").read_text())
    assert [image["image"] for image in report["images"]] == ["a/0.png", "a/1.png"]
    assert report["deletion"]["steps"] == 3


def test_of_tiles_the_worst_is_explained(place: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "tiles.yaml").write_text(yaml.safe_dump(SMALL | {"aspect": "tile", "precision": "float32"}))
    flags = ["--input", str(place / "good"), "--model-out", str(tmp_path / "m"), "--config", str(tmp_path / "tiles.yaml")]
    with pytest.raises(SystemExit) as ended:
        run(train_main, flags)
    assert not ended.value.code
    pixels = np.asarray(surface(7, False).resize((180, 150))).copy()
    pixels[90:110, 150:170] = np.random.default_rng(0).integers(0, 255, (20, 20))
    Image.fromarray(pixels).save(tmp_path / "large.png")
    flags = ["--model", str(tmp_path / "m"), "--input", str(tmp_path / "large.png"), "--output", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as ended:
        run(main, [*flags, "--method", "gradient", "--good", str(place / "good")])
    assert not ended.value.code
    (image,) = json.loads((tmp_path / "out" / "explanations.json").read_text())["images"]
    left, top = image["tile"]
    assert left < 170 and 150 < left + 64 and top < 110 and 90 < top + 64
    assert f"large.png tile at {left},{top}  score " in capsys.readouterr().out
    assert image["maps"][1]["picture"] == f"000-large.png_tile_at_{left}_{top}.gradient.png"


def test_what_cannot_work_is_one_sentence(place: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "empty").mkdir()
    for source, flags, message in (
        ("none", (), "--input must be an image or a folder"),
        (str(tmp_path / "empty"), (), "It holds no images"),
        ("train.yaml", (), "can be read"),
        ("bad/a", ("--method", "lime"), "method must be 'gradient'"),
        ("bad/a", ("--method", "cam"), "cam needs a score that is linear"),
        ("bad/a", ("--good", str(place / "none")), "--good must be an image or a folder"),
        ("bad/a", ("--layer", "layer9"), "layer must be one of the backbone's; got 'layer9'"),
        ("bad/a", ("--limit", "0"), "limit must be"),
    ):
        assert explain(place, source, tmp_path / "out", *flags) == 2
        assert message in capsys.readouterr().err
        assert not (tmp_path / "out").exists()


def test_linked_folders_are_entered_once(tmp_path: Path) -> None:
    (tmp_path / "stored").mkdir()
    for name in ("b.png", "a.png", "Thumbs.db"):
        (tmp_path / "stored" / name).touch()
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "linked").symlink_to(tmp_path / "stored")
    (tmp_path / "stored" / "loop").symlink_to(tmp_path / "set")
    assert [path.name for path in _images("--input", tmp_path / "set")] == ["a.png", "b.png"]
