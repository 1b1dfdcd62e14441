"""`flowscore calibrate` as a user calls it, on a few small images of pieces with two views."""

import json
import re
import shutil
import tarfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from scipy import ndimage

from jobs.calibrate import main
from jobs.command.entry import run
from jobs.images.rescored import score_again
from jobs.train import main as train_main
from models import artifact
from models.calibration import files
from models.calibration.calibration import Calibration, StoredImage
from models.verdicts.ranks import ranks
from pipeline.decode.config import DecodeConfig
from pipeline.input.identity import content_hash
from pipeline.scoring.scorer import open_scorer
from pipeline.session import Model
from pipeline.storage.copies import local_copy, upload_directory

PATTERN = "{line}/{lot}/{serial}_{camera}.png"
KEYS = ("--key-pattern", PATTERN, "--piece-key", "lot,serial", "--view-key", "camera")
SMALL = {
    "detector": "padim",
    "weights": "none",
    "image_size": 32,
    "backbone": "test_resnet",
    "hyperparameters": {"dims": 16},
    "device": "cpu",
    "precision": "float32",
    "key_pattern": PATTERN,
    "group_key": "lot",
    "calibration_share": 0.5,
    "selection_share": 0.2,
    "name": "tiny",
}


def draw(path: Path, seed: int, defect: bool = False) -> None:
    """A grey surface whose contrast differs from piece to piece; the camera `dark` sees a tenth of the light."""
    rng = np.random.default_rng(seed)
    piece = np.random.default_rng(seed // 2).uniform(0.5, 1.5)
    pixels = ndimage.gaussian_filter(rng.standard_normal((40, 36)), 1.5) * 120 * piece + 128
    if defect:
        pixels = rng.integers(0, 2, pixels.shape) * 255.0
    path.parent.mkdir(parents=True, exist_ok=True)
    light = 0.1 if path.stem.endswith("dark") else 1.0
    Image.fromarray(np.clip(pixels * light, 0, 255).astype(np.uint8)).save(path)


def pieces(folder: Path, lots: range, each: int, cameras: tuple[str, ...] = ("bright", "dark"), defect: bool = False) -> None:
    """Pieces with one image from each camera; serials begin anew in every lot. Two lots of three are of line A."""
    for lot in lots:
        for serial in range(each):
            for number, camera in enumerate(cameras):
                path = folder / ("B" if lot % 3 == 2 else "A") / f"lot{lot:02}" / f"{serial:03}_{camera}.png"
                draw(path, 2 * (1000 * lot + serial) + number, defect)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """good: what train reads, 20 lots of 3 pieces.  fresh: 12 other lots of 5 pieces.  model: trained on good."""
    root = tmp_path_factory.mktemp("calibrate")
    pieces(root / "good", range(20), 3)
    pieces(root / "fresh", range(30, 42), 5)
    (root / "train.yaml").write_text(yaml.safe_dump(SMALL))
    flags = ["--input", str(root / "good"), "--model-out", str(root / "model"), "--config", str(root / "train.yaml")]
    with pytest.raises(SystemExit) as ended:
        run(train_main, flags)
    assert not ended.value.code
    return root


@pytest.fixture
def model(place: Path, tmp_path: Path) -> Path:
    """A copy of the model, not calibrated."""
    shutil.copytree(place / "model", tmp_path / "model")
    return tmp_path / "model"


def calibrate(model: Path, source: Path, *flags: str) -> int:
    with pytest.raises(SystemExit) as ended:
        run(main, ["--model", str(model), "--input", str(source), "--device", "cpu", *flags])
    return int(ended.value.code or 0)


def read(model: Path) -> Calibration:
    found = files.read(artifact.read(model))
    assert found is not None
    return found


def test_what_train_kept_calibrates_and_the_rest_is_left_out(place: Path, model: Path, capsys) -> None:
    before = artifact.read(model)
    assert before.calibration_digest is None
    assert calibrate(model, place / "good", *KEYS) == 0
    said = capsys.readouterr().out
    after, made, trained = artifact.read(model), read(model), before.config.trained
    assert after.model_digest == before.model_digest and after.calibration_digest is not None
    assert f"{trained['fit']} fitted images are left out, {trained['selection']} of the selection set" in said
    n = trained["calibration"] // 2
    assert len(made.groups[0].scores()) == n and made.groups[0].sets.tolist() == [[1, 1]]
    assert len(made.images.score) == len(made.hashes) == trained["calibration"]
    seen = "".join(trained["content_hashes"].values())
    assert not {seen[at : at + 32] for at in range(0, len(seen), 32)} & set(made.hashes)
    assert f"{n} good pieces of 2 images of 2 views from {len(made.lots)} lots, for cpu-float32" in said
    assert (made.mode.label, made.mode.batch_size, made.grid.height) == ("cpu-float32", 16, 32)
    assert made.keys.piece == ("lot", "serial") and made.keys.lot == "lot" and made.keys.pattern == PATTERN


def test_it_says_what_is_promised_and_what_is_missing(place: Path, model: Path, capsys) -> None:
    assert calibrate(model, place / "fresh", *KEYS[:4]) == 0  # a piece is judged by both images, one view
    said = capsys.readouterr().out
    assert "60 good pieces of 2 images from 12 lots" in said
    assert "1 / 61: 1.64 % on average, 4.87 % at 95 %" in said
    assert "5 %: a new good piece is flagged with at most 4.92 % on average, 10.1 % at 95 %" in said
    assert "0.1 %: cannot be promised with 60 pieces; on average it needs 999, at 95 % 2,995" in said
    assert "2 % at 95 % needs 149 pieces, you have 60" in said and "1 % on average needs 99 pieces, you have 60" in said
    assert "do not cover lots: they are 12, and 20 are needed" in said and "design effect of 12 lots" in said
    for size, least in ((100, 17), (1000, 164), (5000, 820)):
        assert f"in a lot of {size:,} at least {least} pieces must stand out" in said
    rows = re.findall(r"^(\d+ %) +([\d,]+) +(\d+|never) ", said, re.MULTILINE)
    assert [(rate, size) for rate, size, _ in rows] == [(r, s) for r in ("10 %", "5 %") for s in ("100", "1,000", "5,000")]
    card = (model / "card.md").read_text()
    assert "## Calibration" in card and "60 good pieces of 2 images from 12 lots" in card and "Not calibrated" not in card


def test_the_same_images_give_the_same_bytes(place: Path, model: Path) -> None:
    assert calibrate(model, place / "good", *KEYS, "--by", "line") == 0
    first = {name: (model / name).read_bytes() for name in (*artifact.CALIBRATION_FILES, artifact.CARD, artifact.DIGESTS)}
    assert calibrate(model, place / "good", *KEYS, "--by", "line") == 0
    assert first == {name: (model / name).read_bytes() for name in first}
    assert files.encoded(read(model)) == {name: first[name] for name in artifact.CALIBRATION_FILES}
    assert sorted(path.name for path in model.parent.iterdir()) == ["model"]


def test_heat_maps_get_one_scale_by_the_maps_of_good_images(place: Path, model: Path, capsys) -> None:
    """Fitted and selection images do not count."""
    assert calibrate(model, place / "good", *KEYS) == 0
    made, said = read(model), capsys.readouterr().out
    images = [path for path in sorted((place / "good").rglob("*.png")) if hash_of(path) in made.hashes]
    cells = np.sort(np.concatenate([cells.ravel() for cells in Model(model, "cpu").score(list(map(str, images))).anomaly_map]))
    ranks_of = [int(np.ceil(share * len(cells))) - 1 for share in (0.5, 0.999)]
    assert len(images) == len(made.hashes) > 20 and made.map_scale == pytest.approx(tuple(cells[ranks_of]), rel=1e-3)
    low, high = (f"{value:.3g}" for value in made.map_scale)
    assert f"heat maps are coloured from {low} to {high}, the 50 and 99.9 % points of good images' maps" in said
    assert f"coloured from {low} to {high}" in (model / "card.md").read_text()


def test_other_images_are_refused_if_the_model_knows_some(place: Path, model: Path, tmp_path: Path, capsys) -> None:
    fitted = artifact.read(model).config.trained["content_hashes"]
    shutil.copytree(place / "fresh", tmp_path / "mixed")
    (model / "card.md").write_text("kept")
    for part in ("fit", "selection"):
        known = next(path for path in sorted((place / "good").rglob("*.png")) if hash_of(path) in fitted[part])
        added = tmp_path / "mixed" / "A" / "lot99" / "000_bright.png"
        added.parent.mkdir(exist_ok=True)
        shutil.copy(known, added)
        assert calibrate(model, tmp_path / "mixed", *KEYS[:4]) == 2
        shown = capsys.readouterr()
        assert "1 images that it was fitted or selected on, such as A/lot99/000_bright.png" in shown.err
        assert "Traceback" not in shown.err
    assert artifact.read(model).calibration_digest is None and (model / "card.md").read_text() == "kept"


def hash_of(path: Path) -> str:
    return content_hash(path.read_bytes())


def test_views_are_put_on_one_scale_by_the_selection_set(place: Path, model: Path, tmp_path: Path, capsys) -> None:
    assert calibrate(model, place / "fresh", *KEYS) == 2
    assert "images of the selection set must show every view, 'bright', 'dark'" in capsys.readouterr().err
    assert calibrate(model, place / "good", *KEYS) == 0
    first = read(model)
    scales = first.selection.scales
    assert scales.views.tolist() == ["bright", "dark"] and scales.q50[0] != scales.q50[1]
    z = (first.images.score - scales.q50[first.images.view]) / (scales.q90 - scales.q50)[first.images.view]
    largest = np.full(len(first.groups[0].score), -np.inf)
    np.maximum.at(largest, first.images.piece, z)
    assert np.array_equal(largest.astype(np.float32)[first.groups[0].piece], first.groups[0].score)
    # Once calibrated, other images of the same views may calibrate again: the scales stay.
    assert calibrate(model, place / "fresh", *KEYS) == 0
    again = read(model)
    assert len(again.groups[0].score) == 60 and np.array_equal(again.selection.scales.q90, scales.q90)
    assert "dark" in (model / "card.md").read_text()


def test_values_of_by_with_enough_pieces_are_calibrated_apart(place: Path, model: Path, capsys) -> None:
    assert calibrate(model, place / "fresh", *KEYS[:4], "--by", "line", "--rates", "0.2,0.05") == 0
    made = read(model)
    assert [group.by for group in made.groups] == [(), ("A",)]  # 40 pieces from 8 lots; B has 20 from 4
    assert made.seen == (("A", "B"),)
    assert made.group_for(("A",), Fraction("0.2")) is made.groups[1]
    assert made.group_for(("A",), Fraction("0.05")) is made.groups[0]  # 5 / 0.05 - 1 = 99 pieces
    assert made.group_for(("B",), Fraction("0.2")) is made.groups[0] and made.group_for(("C",), Fraction("0.2")) is None
    assert "line A: 40 pieces of their own" in capsys.readouterr().out


def test_image_counts_that_vary_are_calibrated_each_by_itself(place: Path, model: Path, tmp_path: Path, capsys) -> None:
    pieces(tmp_path / "vary", range(30, 34), 5, cameras=("bright", "dark"))
    pieces(tmp_path / "vary", range(34, 37), 5, cameras=("bright", "dark", "third"))
    pieces(tmp_path / "vary", range(37, 38), 1, cameras=("bright",))
    assert calibrate(model, tmp_path / "vary", *KEYS[:4]) == 0
    group = read(model).groups[0]
    assert group.sets.tolist() == [[2], [3]] and [len(scores) for scores in group.calibrations()] == [20, 15]
    said = capsys.readouterr().out
    assert "calibrated on 35 good pieces of 2 to 3 images, 2 kinds apart from 7 lots" in said
    assert "1 pieces have other numbers of readable images than 2, 3 and do not count" in said
    assert "20 of 2, 15 of 3" in said and "pieces of 3 images: 10 %: a new good piece" in said


def test_few_incomplete_pieces_are_left_out(place: Path, model: Path, tmp_path: Path, capsys) -> None:
    shutil.copytree(place / "fresh", tmp_path / "fresh")
    lot = tmp_path / "fresh" / "A" / "lot30"
    (lot / "000_dark.png").unlink()
    (lot / "001_dark.png").write_bytes(b"\x89PNG\r\n\x1a\n damaged")
    assert calibrate(model, tmp_path / "fresh", *KEYS[:4]) == 0
    said = capsys.readouterr().out
    assert "119 images of 60 pieces; 58 are complete and count" in said and "not readable: 1" in said
    assert len(read(model).groups[0].score) == 58


def test_pieces_of_which_the_model_has_seen_an_image_are_left_out(place: Path, tmp_path: Path, capsys) -> None:
    """Trained without groups, images of one piece lie on both sides."""
    (tmp_path / "train.yaml").write_text(yaml.safe_dump(SMALL | {"group_key": "name", "key_pattern": "{name}"}))
    flags = ["--input", str(place / "good"), "--model-out", str(tmp_path / "model"), "--config", str(tmp_path / "train.yaml")]
    with pytest.raises(SystemExit):
        run(train_main, flags)
    assert calibrate(tmp_path / "model", place / "good", *KEYS[:4]) == 0
    said = capsys.readouterr().out
    assert "since the model has seen other images of the same pieces" in said and "lots of the calibration were fitted" in said
    assert len(read(tmp_path / "model").groups[0].score) < artifact.read(tmp_path / "model").config.trained["calibration"] / 2


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--piece-key", "serial"), "--piece-key must be a field of --key-pattern that every image has; got 'serial'"),
        (("--key-pattern", PATTERN, "--by", "hall"), "--by must be a field of --key-pattern"),
        (("--key-pattern", PATTERN, "--group-key", "hall"), "--group-key must be a field of --key-pattern"),
        (("--key-pattern", PATTERN, "--piece-key", "serial"), "name pieces by several keys: --piece-key lot,serial"),
        (("--rates", "0.05,2"), "rate must be above 0 and below 1; got '2'"),
        (("--view-key", "a,b"), "view_key must be one key column"),
        (("--size-key", "size"), "challenge must be given with size_key"),
        (("--repeats", "again"), "repeat_key must be given with repeats; got repeats 'again' alone. Add --repeat-key"),
        (("--key-pattern", "{line"), "key_pattern must have its braces in pairs"),
        (("--key-pattern", "{a}/{b}/{c}/{d}/{e}/{name}"), "key_pattern must be a pattern of the paths below /"),
        (("--exclude", "/no/such/list"), "--exclude must be"),
    ],
)
def test_what_cannot_work_is_one_sentence(place: Path, model: Path, capsys, flags: tuple[str, ...], message: str) -> None:
    assert calibrate(model, place / "fresh", *flags) == 2
    shown = capsys.readouterr().err
    assert message in shown and "Traceback" not in shown
    assert artifact.read(model).calibration_digest is None


def test_an_input_without_new_images_is_refused(place: Path, model: Path, tmp_path: Path, capsys) -> None:
    hashes = artifact.read(model).config.trained["content_hashes"]
    for path in (place / "good").rglob("*.png"):
        if hash_of(path) in hashes["fit"]:
            target = tmp_path / "seen" / path.relative_to(place / "good")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    assert calibrate(model, tmp_path / "seen", *KEYS) == 2
    assert "good images that the model has not seen" in capsys.readouterr().err


def test_images_that_are_alike_are_warned_of_without_a_piece_key(place: Path, model: Path, tmp_path: Path, capsys) -> None:
    for number in range(12):
        for shift in range(4):
            path = tmp_path / "bursts" / f"{number}-{shift}.png"
            draw(path, 9000 + 2 * number)
            pixels = np.array(Image.open(path)).astype(int) + shift
            Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path)
    shutil.copy(tmp_path / "bursts" / "0-0.png", tmp_path / "bursts" / "copy.png")
    assert calibrate(model, tmp_path / "bursts") == 0
    said = capsys.readouterr().out
    assert "warning: 48 images form 12 groups of near-duplicate thumbnails" in said and "--piece-key" in said
    assert "1 images whose content was there before" in said and "lots are not known" in said
    assert calibrate(model, place / "fresh") == 0
    said = capsys.readouterr().out
    assert "warning" not in said
    alike = tmp_path / "alike"
    alike.mkdir()
    for number in range(12):
        pixels = np.array(Image.open(tmp_path / "bursts" / "0-0.png")).astype(int) + number
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(alike / f"{number}.png")
    assert calibrate(model, alike) == 0
    assert "warning: more than a quarter of 12 images are near-duplicates" in capsys.readouterr().out


def test_images_that_are_alike_inside_the_region_of_interest_are_warned_of(place: Path, tmp_path: Path, capsys) -> None:
    """What surrounds each shot differs, and what a model draws over it is the same in all images."""
    mask = np.zeros((40, 36), np.uint8)
    mask[4:36, 8:34] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    flags = ["--model-out", str(tmp_path / "model"), "--roi", str(tmp_path / "mask.png")]
    with pytest.raises(SystemExit) as ended:
        run(train_main, ["--input", str(place / "good"), "--config", str(place / "train.yaml"), *flags])
    assert not ended.value.code
    for number in range(12):
        draw(tmp_path / "piece.png", 9000 + 2 * number)
        surface = 170 + np.array(Image.open(tmp_path / "piece.png")).astype(int) // 4
        for shot in range(4):
            around = np.random.default_rng(10 * number + shot).integers(0, 255, mask.shape)
            path = tmp_path / "bursts" / f"{number}-{shot}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(np.where(mask > 0, surface + shot, around).astype(np.uint8)).save(path)
    capsys.readouterr()
    assert calibrate(tmp_path / "model", tmp_path / "bursts") == 0
    assert "warning: 48 images form 12 groups of near-duplicate thumbnails" in capsys.readouterr().out


def test_a_challenge_counts_what_is_found(place: Path, model: Path, tmp_path: Path, capsys) -> None:
    pieces(tmp_path / "bad" / "large", range(50, 53), 10, defect=True)
    pieces(tmp_path / "bad" / "none", range(53, 54), 4)
    (tmp_path / "c.yaml").write_text("challenge_pattern: '{size}/{line}/{lot}/{serial}_{camera}.png'\n")
    flags = ("--challenge", str(tmp_path / "bad"), "--size-key", "size", "--config", str(tmp_path / "c.yaml"))
    assert calibrate(model, place / "good", *KEYS, *flags) == 0
    challenge = read(model).challenge
    assert challenge is not None and {row.rate for row in challenge.detected} == {"0.1", "0.05"}
    found = {(row.rate, row.size_class): (row.flagged, row.pieces) for row in challenge.detected}
    assert found["0.1", "large"] == (30, 30) and found["0.1", "none"][1] == 4 and found["0.1", ""][1] == 34
    said = capsys.readouterr().out
    assert "pieces with defects, at 10 %: large: 30 of 30 flagged: at least 90 % are found, at 95 % confidence" in said
    assert re.search(
        "as many of the defective pieces are flagged as the challenge says at least: [\\d.]+ % at 10 %, [\\d.]+ % at 5 %", said
    )


def imaged_again(source: Path, target: Path, lots: range, takes: int) -> None:
    """Pieces of `pieces` with 3 serials, imaged `takes` times: the light differs a little from take to take."""
    pieces(source, lots, 3)
    for path in sorted(source.rglob("*.png")):
        for take in range(takes):
            placed = target / f"run{take}" / path.relative_to(source)
            placed.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.array(Image.open(path)).astype(int) + 3 * take
            Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(placed)


REPEATS = ("--repeat-key", "take")


def test_pieces_imaged_again_say_how_far_verdicts_agree(place: Path, model: Path, tmp_path: Path, capsys) -> None:
    """Ten pieces, three times each, of two views; one of them is known to the model, and one image is a copy."""
    imaged_again(tmp_path / "once", tmp_path / "again", range(70, 73), 3)
    pieces(tmp_path / "bad", range(73, 74), 1, defect=True)
    for take in range(3):
        for path in (tmp_path / "bad").rglob("*.png"):
            target = tmp_path / "again" / f"run{take}" / path.relative_to(tmp_path / "bad")
            target.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.array(Image.open(path))
            pixels[0, 0] = take  # or else a copy
            Image.fromarray(pixels).save(target)
    fitted = artifact.read(model).config.trained["content_hashes"]["fit"]
    known = next(path for path in sorted((place / "good").rglob("*.png")) if hash_of(path) in fitted)
    shutil.copy(known, tmp_path / "again" / "run0" / "A" / "lot70" / "000_bright.png")
    copied = tmp_path / "again" / "run0" / "A" / "lot70" / "001_bright.png"
    shutil.copy(copied, tmp_path / "again" / "run1" / "A" / "lot70" / "001_bright.png")
    (tmp_path / "c.yaml").write_text("repeats_pattern: '{take}/{line}/{lot}/{serial}_{camera}.png'\n")
    flags = ("--repeats", str(tmp_path / "again"), *REPEATS, "--config", str(tmp_path / "c.yaml"))
    assert calibrate(model, place / "good", *KEYS, *flags) == 0
    said, found = capsys.readouterr().out, read(model).repeats
    assert found is not None and (found.fewest, found.most, found.once, found.incomplete) == (2, 3, 0, 1)
    assert [(one.rate, one.pieces) for one in found.agreements] == [("0.1", 9), ("0.05", 9)]
    assert all(one.flagged >= 1 and one.agreeing >= 1 for one in found.agreements)  # the bad piece always
    assert "of --repeats, 1 pieces are left out: the model was fitted or selected on images of them" in said
    assert "of --repeats, 1 images are left out: copies of others are no second imaging" in said
    line = f"pieces imaged again, at 10 %: {found.agreements[0].agreeing} of 9 ("
    assert line in said and line in (model / "card.md").read_text()
    first = (model / "calibration.json").read_bytes()
    assert calibrate(model, place / "good", *KEYS, *flags) == 0
    assert (model / "calibration.json").read_bytes() == first
    assert calibrate(model, place / "good", *KEYS) == 0 and read(model).repeats is None


def test_pieces_imaged_once_have_no_repeatability(place: Path, model: Path, tmp_path: Path, capsys) -> None:
    pattern = "{take}/" + PATTERN
    imaged_again(tmp_path / "once", tmp_path / "again", range(70, 73), 1)
    (tmp_path / "c.yaml").write_text(f"repeats_pattern: '{pattern}'\n")
    (tmp_path / "empty").mkdir()
    for where, count in (("again", 9), ("empty", 0)):
        flags = ("--repeats", str(tmp_path / where), *REPEATS, "--config", str(tmp_path / "c.yaml"))
        assert calibrate(model, place / "fresh", *KEYS[:4], *flags) == 2
        message = f"--repeats must be a place with new images of pieces that were imaged at least twice; got '{count} pieces"
        assert message in capsys.readouterr().err
    for which, key in (("repeats", "repeat-key"), ("challenge", "size-key")):
        (tmp_path / "c.yaml").write_text(f"{which}_pattern: '{pattern}'\n")
        flags = (f"--{which}", str(tmp_path / "again"), f"--{key}", "run", "--config", str(tmp_path / "c.yaml"))
        assert calibrate(model, place / "fresh", *KEYS[:4], *flags) == 2
        shown = capsys.readouterr().err
        assert f"--{key} must be a field of {which}_pattern that every image has; got 'run'" in shown
        assert "scoring" not in shown  # found before anything is scored
    assert artifact.read(model).calibration_digest is None


def test_another_mode_is_compared_before_it_replaces_the_first(place: Path, model: Path, tmp_path: Path, capsys) -> None:
    """The first calibration is made to look as if it came from another device whose scores differ a little."""
    shutil.copytree(place / "fresh", tmp_path / "first")
    assert calibrate(model, tmp_path / "first", *KEYS[:4]) == 0
    text = json.loads((model / "calibration.json").read_text())
    assert len(text["stored_images"]) == 120
    text["mode"]["label"] = "cuda-bf16"
    for image in text["stored_images"]:
        image["score"] += 0.5
    (model / "calibration.json").write_text(artifact.file_text(text))
    artifact.write_digests(model)
    earlier = read(model)
    next((tmp_path / "first").rglob("*_bright.png")).unlink()
    pieces(tmp_path / "other", range(60, 66), 5)  # images that are not stored: those are read from where they were
    capsys.readouterr()
    assert calibrate(model, tmp_path / "other", *KEYS[:4]) == 0
    said = capsys.readouterr().out
    assert "1 stored images can no longer be read" in said
    (images, largest, median) = re.findall(
        r"(\d+) stored images, scored on cpu-float32 .*differ by (\d+) at most, ([\d.]+) in", said
    )[0]
    before = np.array([image.score for image in earlier.stored])
    scales, known = earlier.selection.scales, earlier.groups[0].scores()
    moved = [ranks((s - scales.q50[0]) / (scales.q90 - scales.q50)[0], known) for s in (before, before - 0.5)]
    assert int(images) == 119 and 0 < int(largest) <= int(np.abs(moved[0] - moved[1]).max())
    assert float(median) <= int(largest) and "this calibration replaces that of cuda-bf16" in said
    assert read(model).mode.label == "cpu-float32"


def test_a_damaged_calibration_is_replaced(place: Path, model: Path, capsys) -> None:
    assert calibrate(model, place / "fresh", *KEYS[:4]) == 0
    whole = (model / "calibration.json").read_bytes()
    (model / "calibration.json").write_bytes(b"{}")
    with pytest.raises(artifact.ArtifactError):
        artifact.read(model)
    assert calibrate(model, place / "fresh", *KEYS[:4]) == 0
    assert "the calibration that is there is not used" in capsys.readouterr().out
    assert (model / "calibration.json").read_bytes() == whole


def test_a_model_in_object_storage_is_calibrated_there(place: Path, s3_bucket: str, tmp_path: Path, capsys) -> None:
    upload_directory(place / "model", f"{s3_bucket}/model")
    upload_directory(place / "fresh", f"{s3_bucket}/fresh")
    for _ in range(2):  # the second time over the first calibration
        flags = ["--model", f"{s3_bucket}/model", "--input", f"{s3_bucket}/fresh", "--device", "cpu", *KEYS[:4]]
        (tmp_path / "c.yaml").write_text(f"cache_dir: {tmp_path / 'cache'}\n")
        with pytest.raises(SystemExit) as ended:
            run(main, [*flags, "--config", str(tmp_path / "c.yaml")])
        assert not ended.value.code
    found = artifact.read(local_copy(f"{s3_bucket}/model", tmp_path / "other cache"))
    made = files.read(found)
    assert made is not None and len(made.groups[0].score) == 60
    assert found.model_digest == artifact.read(place / "model").model_digest
    assert made.stored[0].uri.startswith(s3_bucket) and "60 good pieces" in (found.directory / "card.md").read_text()


def test_images_in_a_tar_and_cut_into_tiles(place: Path, tmp_path: Path, capsys) -> None:
    """Scores are those of every other command, and stored images are found again in their shard."""
    settings = SMALL | {"aspect": "tile", "image_size": 32}
    (tmp_path / "train.yaml").write_text(yaml.safe_dump(settings))
    flags = ["--input", str(place / "good"), "--model-out", str(tmp_path / "model"), "--config", str(tmp_path / "train.yaml")]
    with pytest.raises(SystemExit):
        run(train_main, flags)
    (tmp_path / "shards").mkdir()
    with tarfile.open(tmp_path / "shards" / "fresh.tar", "w") as tar:
        for path in sorted((place / "fresh").rglob("*.png"))[:40]:
            tar.add(path, arcname=str(path.relative_to(place / "fresh")))
    keys = ("--key-pattern", "{shard}/" + PATTERN, "--piece-key", "lot,serial")
    assert calibrate(tmp_path / "model", tmp_path / "shards", *keys) == 0
    made = read(tmp_path / "model")
    assert len(made.groups[0].score) == 20 and made.grid.resize == "tile" and made.grid.maps != ()
    paths = [str(place / "fresh" / str(image.member)) for image in made.stored]
    assert [image.score for image in made.stored] == pytest.approx(Model(tmp_path / "model", "cpu").score(paths).score.tolist())
    text = json.loads((tmp_path / "model" / "calibration.json").read_text())
    text["mode"]["scoring_version"] = 1
    (tmp_path / "model" / "calibration.json").write_text(artifact.file_text(text))
    artifact.write_digests(tmp_path / "model")
    assert calibrate(tmp_path / "model", place / "fresh", *KEYS[:4]) == 0  # the same contents, loose
    said = capsys.readouterr().out
    assert "40 stored images, scored on cpu-float32 (batches of 16, scoring version" in said
    assert "ranks differ by 0 at most, 0 in the median, of 20 pieces" in said


def test_stored_images_of_a_shard_are_scored_again(place: Path, model: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "fresh.tar", "w") as tar:
        for path in sorted((place / "fresh").rglob("*.png"))[:4]:
            tar.add(path, arcname=path.name)
    names = [path for path in sorted((place / "fresh").rglob("*.png"))[:4]]
    uri = f"file://{tmp_path}/fresh.tar"
    stored = [StoredImage(uri, path.name, hash_of(path), "", 0.0) for path in names]
    stored.append(StoredImage(uri, "gone.png", "0" * 32, "", 0.0))
    opened = artifact.read(model)
    found = score_again(stored, open_scorer(model, "cpu"), DecodeConfig.of(opened.config.input))
    assert found.keys() == {image.content_hash for image in stored[:4]}
    scores = Model(model, "cpu").score([str(path) for path in names]).score
    assert [found[image.content_hash] for image in stored[:4]] == pytest.approx(scores.tolist())


def test_excluded_images_do_not_calibrate(place: Path, model: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "exclude.txt").write_text("A/lot30/000_bright.png\nA/lot30/000_dark.png\n")
    assert calibrate(model, place / "fresh", *KEYS[:4], "--exclude", str(tmp_path / "exclude.txt")) == 0
    assert "left out by --exclude: 2 images" in capsys.readouterr().out and len(read(model).groups[0].score) == 59
    (tmp_path / "exclude.txt").write_text("A/lot30/999_bright.png\n")
    assert calibrate(model, place / "fresh", *KEYS[:4], "--exclude", str(tmp_path / "exclude.txt")) == 2
    assert "--exclude must be a list in which every line names an image" in capsys.readouterr().err


def test_too_many_unreadable_images_are_refused(place: Path, model: Path, tmp_path: Path, capsys) -> None:
    shutil.copytree(place / "fresh", tmp_path / "fresh")
    for path in sorted((tmp_path / "fresh").rglob("*.png"))[:12]:
        path.write_bytes(b"\x89PNG\r\n\x1a\n damaged")
    assert calibrate(model, tmp_path / "fresh", *KEYS[:4]) == 3
    assert "got 12 of 120" in capsys.readouterr().err and artifact.read(model).calibration_digest is None


def test_an_input_without_images_is_refused(model: Path, place: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "links").mkdir()
    assert calibrate(model, tmp_path / "links") == 2
    assert "--input must be a place with good images" in capsys.readouterr().err
    for number, path in enumerate(sorted((place / "fresh").rglob("*.png"))):
        (tmp_path / "links" / f"{number}.png").symlink_to(path)
    assert calibrate(model, tmp_path / "links") == 2
    assert "Add --follow-links: 120 links there are not followed" in capsys.readouterr().err
    assert calibrate(model, tmp_path / "links", "--follow-links") == 0


def test_lots_that_some_images_lack_are_not_known(place: Path, model: Path, tmp_path: Path, capsys) -> None:
    shutil.copytree(place / "fresh", tmp_path / "fresh")
    shutil.copy(place / "fresh" / "A" / "lot30" / "000_bright.png", tmp_path / "fresh" / "odd.png")
    (tmp_path / "fresh" / "A" / "lot30" / "000_bright.png").unlink()
    assert calibrate(model, tmp_path / "fresh", "--key-pattern", PATTERN, "--by", "line") == 2  # --by must be read everywhere
    assert "odd.png lacks it" in capsys.readouterr().err
    assert calibrate(model, tmp_path / "fresh", "--key-pattern", PATTERN) == 0
    made = read(model)
    assert made.lots == ("",) and not made.knows_lots() and len(made.groups[0].score) == 120
    assert "variation from lot to lot is not covered" in capsys.readouterr().out


def test_a_few_pieces_promise_no_rate_and_one_line_says_so(place: Path, model: Path, tmp_path: Path, capsys) -> None:
    pieces(tmp_path / "few", range(50, 52), 2)
    by_piece = ("--key-pattern", PATTERN, "--piece-key", "lot,serial")
    assert calibrate(model, tmp_path / "few", *by_piece) == 0
    said = capsys.readouterr().out
    assert "few images: 4 good pieces: they promise none of the rates 10 %, 5 %, 1 % (10 % takes 9 pieces)" in said
    assert "score flags no piece and holds no lot at 5 %" in said
    assert calibrate(model, place / "fresh", *by_piece) == 0
    assert "few images" not in capsys.readouterr().out
