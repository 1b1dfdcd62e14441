"""`flowscore evaluate` as a user calls it: an MVTec tree of drawn surfaces, a small model."""

import csv
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from scipy import ndimage
from sklearn.metrics import roc_auc_score

from jobs.calibrate import main as calibrate_main
from jobs.command.entry import run
from jobs.evaluate import _at_mask, main
from jobs.train import main as train_main
from models import artifact
from models.calibration import files
from models.roi.region import RegionOfInterest, cells_inside
from pipeline.decode.config import DecodeConfig
from pipeline.storage.copies import upload_directory
from pipeline.storage.store import open_store

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
    return trained(tree, tmp_path_factory.mktemp("model"), request.param)


@pytest.fixture(scope="module")
def squashing(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tree, tmp_path_factory.mktemp("model"), "squash")


def trained(tree: Path, folder: Path, aspect: str) -> Path:
    config = folder / "train.yaml"
    config.write_text(yaml.safe_dump(SMALL | {"aspect": aspect}))
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
    assert "defect images without a mask: 1 of 10 (" in shown and "masks that mark no pixel: 1 (" in shown
    assert report["notes"] and all(note in shown for note in report["notes"])


def test_without_groups_the_interval_says_by_image(tree: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    assert evaluate("--model", str(model), "--input", str(tree), "--json", str(out)) == 0
    assert json.loads(out.read_text())["interval"].endswith("by image")


def test_what_cannot_work_is_one_sentence(tree: Path, model: Path, tmp_path: Path, capsys) -> None:
    assert evaluate("--model", str(model), "--input", str(tmp_path)) == 2
    assert "MVTec layout" in capsys.readouterr().err
    assert evaluate("--model", str(tmp_path / "none"), "--input", str(tree)) == 2
    assert "artifact's directory" in capsys.readouterr().err


def test_images_without_a_row_are_groups_of_their_own(tree: Path, squashing: Path, tmp_path: Path, capsys) -> None:
    short = tmp_path / "short.csv"
    short.write_text("path,piece\ntest/good/000.png,a\ntest/good/001.png,a\ntest/good/gone.png,b\n")
    assert evaluate("--model", str(squashing), "--input", str(tree), "--groups", str(short)) == 0
    said = capsys.readouterr().out
    assert "16 images have no row" in said and "1 rows of" in said


def calibrated(model: Path, tree: Path, folder: Path, *flags: str) -> Path:
    """A copy of the model, calibrated on 40 other goods of two images a piece."""
    shutil.copytree(model, folder / "calibrated")
    for number in range(40):
        path = folder / "fresh" / f"p{number // 2:02}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw(500 + number, False, (72, 80))[0]).save(path)
    given = ["--model", str(folder / "calibrated"), "--input", str(folder / "fresh"), "--device", "cpu", *flags]
    with pytest.raises(SystemExit) as ended:
        run(calibrate_main, given)
    assert not ended.value.code
    return folder / "calibrated"


def test_false_calls_and_escapes_at_calibrated_rates(tree: Path, squashing: Path, tmp_path: Path, capsys) -> None:
    model, out = calibrated(squashing, tree, tmp_path), tmp_path / "figures.json"
    assert evaluate("--model", str(model), "--input", str(tree), "--device", "cpu", "--json", str(out)) == 0
    report, said = json.loads(out.read_text()), capsys.readouterr().out
    assert "at 0.1 %: the calibration cannot promise it; that takes 999 pieces" in said
    assert [row["needs_pieces"] for row in report["at_rates"]] == [999, 99, None, None]
    (five, ten) = report["at_rates"][2:]
    found = files.read(artifact.read(model))
    assert found is not None
    for row, rank in ((five, 2), (ten, 4)):  # floor(rate x 41)
        limit = found.images.score[np.argsort(found.images.score)[-rank]]
        calls = sum(image["score"] > limit for image in report["scores"] if image["defect_type"] == "good")
        escapes = sum(image["score"] <= limit for image in report["scores"] if image["defect_type"] != "good")
        assert (row["image_false_calls"]["counted"], row["image_false_calls"]["total"]) == (calls, 8)
        assert row["image_escapes"]["counted"] == row["piece_escapes"]["counted"] == escapes
        assert row["piece_false_calls"]["low"] <= calls / 8 <= row["piece_false_calls"]["high"]
    assert report["calibration_digest"] == artifact.read(model).calibration_digest
    assert "at 10 %, images: false calls" in said
    # A group of --groups holds images that are alike, so an interval that takes images as independent is not shown.
    flags = ("--groups", str(tree / "pieces.csv"), "--json", str(out))
    assert evaluate("--model", str(model), "--input", str(tree), "--device", "cpu", *flags) == 0
    assert "%, pieces:" not in capsys.readouterr().out
    wider = json.loads(out.read_text())["at_rates"][3]
    assert wider["piece_escapes"] is None and wider["image_escapes"]["high"] >= ten["image_escapes"]["high"]


def test_images_that_the_model_knows_say_nothing_of_new_ones(tree: Path, squashing: Path, tmp_path: Path, capsys) -> None:
    model, out = calibrated(squashing, tree, tmp_path), tmp_path / "figures.json"
    shutil.copytree(tree, tmp_path / "tree")
    shutil.copy(tree / "train" / "good" / "000.png", tmp_path / "tree" / "test" / "good" / "fitted.png")
    shutil.copy(tmp_path / "fresh" / "p00" / "0.png", tmp_path / "tree" / "test" / "good" / "calibrated.png")
    assert evaluate("--model", str(model), "--input", str(tmp_path / "tree"), "--device", "cpu", "--json", str(out)) == 0
    assert "left out: 2 images that the model was trained or calibrated on" in capsys.readouterr().out
    assert json.loads(out.read_text())["at_rates"][3]["image_false_calls"]["total"] == 8


def test_a_calibration_by_piece_is_evaluated_by_piece(tree: Path, squashing: Path, tmp_path: Path, capsys) -> None:
    keys = ("--key-pattern", "{part}/{name}", "--piece-key", "part")
    model, out = calibrated(squashing, tree, tmp_path, *keys), tmp_path / "figures.json"
    flags = ("--model", str(model), "--input", str(tree), "--device", "cpu", "--json", str(out))
    assert evaluate(*flags) == 0
    assert "--groups says what piece each image shows" in capsys.readouterr().out
    assert evaluate(*flags, "--groups", str(tree / "pieces.csv")) == 0
    row = json.loads(out.read_text())["at_rates"][3]
    assert row["piece_false_calls"]["total"] == 4 and row["piece_escapes"]["total"] == 5
    assert row["image_escapes"]["total"] == 10
    text = json.loads((model / "calibration.json").read_text())
    text["mode"]["label"] = "cuda-bf16"
    (model / "calibration.json").write_text(artifact.file_text(text))
    artifact.write_digests(model)
    assert evaluate(*flags, "--groups", str(tree / "pieces.csv")) == 0
    assert "no figures at calibrated rates: the calibration holds for cuda-bf16" in capsys.readouterr().out


def redrawn(root: Path, change: Callable[[np.ndarray], np.ndarray], rename: Callable[[Path], Path]) -> None:
    for path in sorted((root / "ground_truth").rglob("*.png")):
        pixels = change(np.asarray(Image.open(path)))
        path.unlink()
        target = rename(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(target, "TIFF" if "tif" in target.suffix.lower() else None)


def same_stem(path: Path) -> Path:
    return path.with_name(path.name.replace("_mask", ""))


def linked(root: Path, name: str) -> None:
    (root / name).rename(root.parent / f"{root.name}-{name.replace('/', '-')}")
    (root / name).symlink_to(root.parent / f"{root.name}-{name.replace('/', '-')}")


def litter(root: Path) -> None:
    for place in ("test", "test/good", "test/hole", "ground_truth/hole"):
        (root / place / ".ipynb_checkpoints").mkdir()
        shutil.copy(root / "test/good/000.png", root / place / ".ipynb_checkpoints" / "000-checkpoint.png")


SAME_FIGURES = {
    "0/1, same stem": lambda root: redrawn(root, lambda mask: mask // 255, same_stem),
    "0/100, .PNG": lambda root: redrawn(root, lambda mask: mask // 255 * 100, lambda path: path.with_suffix(".PNG")),
    "red, .bmp": lambda root: redrawn(root, lambda m: np.dstack([m, m * 0, m * 0]), lambda path: path.with_suffix(".bmp")),
    "RGBA": lambda root: redrawn(root, lambda m: np.dstack([m, m * 0, m * 0, m]), same_stem),
    "bool, .TIF": lambda root: redrawn(root, lambda mask: mask > 0, lambda path: same_stem(path).with_suffix(".TIF")),
    "16 bits, .tiff": lambda root: redrawn(root, lambda m: m.astype(np.uint16) * 257, lambda path: path.with_suffix(".tiff")),
    "a folder an image": lambda root: redrawn(
        root, lambda mask: mask, lambda path: same_stem(path).with_suffix("") / "000.png"
    ),
    "half of the masks 0/1": lambda root: redrawn(root, lambda m: m // 255 if m.shape[0] > 72 else m, lambda path: path),
    "linked test/good": lambda root: linked(root, "test/good"),
    "linked ground_truth": lambda root: linked(root, "ground_truth"),
    "linked defect": lambda root: linked(root, "test/hole"),
    "litter": litter,
    "a picture in test/": lambda root: shutil.copy(root / "test/good/000.png", root / "test/overview.png"),
}


@pytest.fixture(scope="module")
def figures(tree: Path, squashing: Path, tmp_path_factory: pytest.TempPathFactory) -> dict:
    out = tmp_path_factory.mktemp("figures") / "f.json"
    assert evaluate("--model", str(squashing), "--input", str(tree), "--json", str(out)) == 0
    return json.loads(out.read_text())


@pytest.mark.parametrize("name", SAME_FIGURES)
def test_figures_do_not_depend_on_how_masks_are_written(
    name: str, tree: Path, squashing: Path, figures: dict, tmp_path: Path
) -> None:
    root = Path(shutil.copytree(tree, tmp_path / "set"))
    SAME_FIGURES[name](root)
    assert evaluate("--model", str(squashing), "--input", str(root), "--json", str(tmp_path / "f.json")) == 0
    found = json.loads((tmp_path / "f.json").read_text())
    assert found["figures"] == figures["figures"] and found["images"] == figures["images"]
    assert found["defects_without_mask"] == figures["defects_without_mask"] == 1


@pytest.mark.parametrize("kinds", [("cut",), ("hole", "cut")])
def test_defects_without_masks_have_no_pixel_figures(
    kinds: tuple[str, ...], tree: Path, squashing: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = Path(shutil.copytree(tree, tmp_path / "set"))
    for kind in kinds:
        shutil.rmtree(root / "ground_truth" / kind)
    assert evaluate("--model", str(squashing), "--input", str(root), "--json", str(tmp_path / "f.json")) == 0
    found = json.loads((tmp_path / "f.json").read_text())
    assert found["figures"]["cut"]["aupro"]["value"] is None and found["figures"]["cut"]["image_auroc"]["value"] is not None
    assert (found["figures"]["all"]["aupro"]["value"] is None) == ("hole" in kinds)
    expected = 10 if "hole" in kinds else 4
    assert f"defect images without a mask: {expected} of 10" in capsys.readouterr().out


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def smaller(path: Path) -> None:
    Image.open(path).resize((40, 36)).save(path)


REFUSED = {
    "half a mask": lambda root: half(root / "ground_truth/hole/000_mask.png"),
    "a mask of another size": lambda root: smaller(root / "ground_truth/hole/000_mask.png"),
    "a photograph as mask": lambda root: shutil.copy(root / "test/hole/000.png", root / "ground_truth/hole/000_mask.png"),
    "no good image": lambda root: [path.unlink() for path in (root / "test/good").iterdir()],
    "good is a broken link": lambda root: [shutil.rmtree(root / "test/good"), os.symlink("gone", root / "test/good")],
    "no defect": lambda root: [shutil.rmtree(root / "test" / kind) for kind in ("hole", "cut")],
    "masks of other names": lambda root: [
        path.rename(path.with_name(path.name.replace("_mask", "_seg"))) for path in (root / "ground_truth/hole").iterdir()
    ],
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_measured_is_one_sentence(
    name: str, tree: Path, squashing: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = Path(shutil.copytree(tree, tmp_path / "set"))
    REFUSED[name](root)
    capsys.readouterr()
    assert evaluate("--model", str(squashing), "--input", str(root), "--json", str(tmp_path / "f.json")) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ") and told.count("\n") == 1 and " must be " in told
    assert not (tmp_path / "f.json").exists()


def test_good_images_that_cannot_be_read_give_no_figure(
    tree: Path, squashing: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = Path(shutil.copytree(tree, tmp_path / "set"))
    for path in (root / "test/good").iterdir():
        path.write_bytes(b"no image")
    config = tmp_path / "evaluate.yaml"
    config.write_text("max_unreadable_share: 1.0\n")
    assert evaluate("--model", str(squashing), "--input", str(root), "--config", str(config)) == 2
    assert "good images and defects that can be read" in capsys.readouterr().err


def test_a_set_in_storage_gives_the_figures_of_its_files(
    tree: Path, squashing: Path, figures: dict, s3_bucket: str, tmp_path: Path, capsys
) -> None:
    upload_directory(tree, f"{s3_bucket}/set")
    upload_directory(squashing, f"{s3_bucket}/m")
    (tmp_path / "evaluate.yaml").write_text(yaml.safe_dump({"cache_dir": str(tmp_path / "cache")}))
    flags = ("--model", f"{s3_bucket}/m", "--input", f"{s3_bucket}/set", "--config", str(tmp_path / "evaluate.yaml"))
    groups = ("--groups", f"{s3_bucket}/set/pieces.csv")
    assert evaluate(*flags, *groups, "--json", f"{s3_bucket}/out/f.json") == 0
    found = json.loads(open_store(f"{s3_bucket}/out").get("f.json"))
    assert found["scores"][0].keys() == figures["scores"][0].keys()
    assert [one["score"] for one in found["scores"]] == [one["score"] for one in figures["scores"]]
    assert found["figures"]["all"]["aupro"]["value"] == figures["figures"]["all"]["aupro"]["value"]
    assert found["input"] == f"{s3_bucket}/set" and found["interval"].endswith("by group of pieces.csv")
    assert "copying" in capsys.readouterr().out
    open_store(f"{s3_bucket}/set").put("ground_truth/hole/000_mask.png", b"no mask")
    assert evaluate(*flags) == 2
    shown = capsys.readouterr().err.splitlines()[-1]
    assert shown.startswith(f"error: {s3_bucket}/set/ground_truth/hole/000_mask.png must be a mask that can be read")
    assert evaluate(*flags, "--json", "s3://no-such-bucket-here/f.json") == 2
    assert "--json must be a place that can be written" in capsys.readouterr().err
    assert evaluate(*flags[:2], "--input", f"{s3_bucket}/none") == 2
    assert f"--input must be a folder with test/ or ground_truth/; got '{s3_bucket}/none'" in capsys.readouterr().err
    open_store(f"{s3_bucket}/half").put("test/hole/0.png", b"x")
    wrong = {
        "--groups must be a file": (*flags, "--groups", f"{s3_bucket}/none.csv"),
        f"MVTec layout, with images in test/good and in at least one test/DEFECT; got '{s3_bucket}/half with 1 in test/hole'": (
            *(*flags[:2], "--input", f"{s3_bucket}/half"),
        ),
    } | ({} if torch.cuda.is_available() else {"device must be auto or cpu on this machine": (*flags, "--device", "cuda")})
    for words, arguments in wrong.items():
        assert evaluate(*arguments) == 2
        shown = capsys.readouterr()
        assert words in shown.err and "copying" not in shown.out, "it is said before the set is copied"


def test_a_ranking_of_too_few_pieces_is_left_out_and_named(tree: Path, squashing: Path, tmp_path: Path, capsys) -> None:
    """Two goods and three defects: a model without skill ranks them perfectly once in ten times."""
    root = Path(shutil.copytree(tree, tmp_path / "set"))
    for kind, left in (("good", 2), ("hole", 3), ("cut", 0)):
        for path in sorted((root / "test" / kind).iterdir())[left:]:
            path.unlink()
            (root / "ground_truth" / kind / f"{path.stem}_mask.png").unlink(missing_ok=True)
    assert evaluate("--model", str(squashing), "--input", str(root), "--json", str(tmp_path / "f.json")) == 0
    found = json.loads((tmp_path / "f.json").read_text())
    nothing = {"value": None, "low": None, "high": None}
    for name in ("all", "hole"):
        assert found["figures"][name]["image_auroc"] == found["figures"][name]["f1_max"] == nothing
        assert (
            found["figures"][name]["pixel_auroc"]["value"] is not None and found["figures"][name]["pixel_auroc"]["low"] is None
        )
    few = "few images: no AUROC, AP and F1-max of all (3 images against 2 good), hole (3 images against 2 good): "
    assert few in capsys.readouterr().out and len(found["scores"]) == 5


@pytest.mark.parametrize("resize", ["squash", "pad"])
def test_a_map_is_enlarged_from_the_cells_that_count_alone(resize: str) -> None:
    mask = np.zeros((20, 20), bool)
    mask[:, :10] = True
    decode = DecodeConfig(height=8, width=16, resize=resize, roi=RegionOfInterest.of(mask))
    counted = cells_inside(decode, (4, 8))
    cells = np.where(counted, np.float32(1), np.float32(-9))
    shown = _at_mask(cells, (20, 20), {"width": 20, "height": 20}, decode)
    assert shown.shape == (20, 20) and np.allclose(shown[mask], 1)
    assert (_at_mask(cells, (20, 20), {"width": 20, "height": 20}, decode.model_copy(update={"roi": None}))[mask] < 0).any()
