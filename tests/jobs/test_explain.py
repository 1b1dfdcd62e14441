"""`flowscore explain` as a user calls it: drawn surfaces with a spot, a small model."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from fake_run import MODEL, publish, score_without_model
from PIL import Image
from scipy import ndimage

from jobs.command.entry import run
from jobs.command.progress import Progress
from jobs.explain import main
from jobs.pages.explanation_picture import BAR_PX, GAP, HEAD_PX, NUMBERS_PX, REMARK, WARNING
from jobs.train import main as train_main
from models import artifact
from models.calibration import in_folder
from models.calibration.example import calibration
from models.explain.trust import STANDINGS
from models.maps.map_scale import MapScale
from pipeline.state.ledger import Ledger
from pipeline.storage.copies import upload_directory
from pipeline.storage.store import open_store
from pipeline.tables.query import open_tables

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
NOTICE_COLOURS = {"better": None, "unclear": REMARK, "worse": WARNING, "untested": REMARK}


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


def notice_on(picture: Path) -> tuple[int, ...] | None:
    """The colour of the notice on the map of a picture."""
    with Image.open(picture) as sheet:
        width = (sheet.width - 4 * GAP - BAR_PX - NUMBERS_PX) // 2
        found = sheet.getpixel((2 * GAP + width + 1, HEAD_PX + 1))
    return found if found in (WARNING, REMARK) else None


def explain(place: Path, source: str, output: Path, *flags: str) -> int:
    arguments = ["--model", str(place / "m"), "--input", str(place / source), "--output", str(output), *flags]
    with pytest.raises(SystemExit) as ended:
        run(main, arguments)
    return int(ended.value.code or 0)


def test_a_folder_by_every_method(place: Path, tmp_path: Path, capsys) -> None:
    (place / "bad" / "notes.png").write_text("no image")
    (tmp_path / "explain.yaml").write_text(yaml.safe_dump({"deletion": {"random_orders": 4}}))
    flags = ("--good", str(place / "good"), "--config", str(tmp_path / "explain.yaml"))
    assert explain(place, "bad", tmp_path / "out", *flags) == 0
    shown = capsys.readouterr().out.splitlines()
    assert "the model scores in bf16; explanations and their scores are computed in float32" in shown
    assert any(line.startswith("cam left out: method must suit the detector") for line in shown)
    assert any(line.startswith("notes.png left out: the bytes are no JPEG") for line in shown)
    lines = [line for line in shown if "  score " in line]
    assert len(lines) == 3 * (1 + len(METHODS)) and lines[0].startswith("a/0.png  score ")
    cost = "the deletion test scores each image 237 more times: 5 maps, each at its place and 4 random ones, in 10 steps"
    assert cost in shown and shown.index(cost) < shown.index(lines[0]), "said before it is spent"
    report = json.loads((tmp_path / "out" / "explanations.json").read_text())
    assert report["layer"] == "deepest tap" and list(report["not_defined"]) == ["cam"]
    assert list(report["unreadable"]) == ["notes.png"]
    assert [image["image"] for image in report["images"]] == ["a/0.png", "a/1.png", "a/2.png"]
    for image in report["images"]:
        assert image["filling"].startswith("good image") and image["score_deleted"] < image["score"]
        assert image["maps"][0]["deletion_auc"] < image["maps"][0]["random_auc"]
        assert {each["method"] for each in image["maps"]} == {"anomaly_map", *METHODS}
        order = [(STANDINGS.index(each["trust"]), each["deletion_auc"]) for each in image["maps"]]
        assert order == sorted(order), "the most trusted first"
        assert image["image_id"] is image["published_score"] is None
        assert len({each["random_auc"] for each in image["maps"]}) > 1, "each map has orders of its own"
        for each in image["maps"]:
            assert (each["deletion_auc"] is None) == (image["score"] <= image["score_deleted"])
            (line,) = [line for line in lines if line.endswith(f"/{each['picture']}")]
            assert ("WORSE THAN RANDOM" in line) == (each["trust"] == "worse")
            warned = notice_on(tmp_path / "out" / each["picture"])
            assert warned == NOTICE_COLOURS[each["trust"]], "on the picture itself"
            with Image.open(tmp_path / "out" / each["picture"]) as picture:
                assert picture.width > 2 * 320 and picture.height > 320
    colours = report["colours"]
    assert set(colours) == {"anomaly_map", *METHODS} and all(each["low"] < each["high"] for each in colours.values())
    assert colours["gradient"]["basis"] == "lowest to 99.8 % of the 3 pictures by gradient"
    low, high = (f"{colours['anomaly_map'][end]:.3g}" for end in ("low", "high"))
    assert f"anomaly_map: one colour scale for all pictures, {low} to {high}, lowest to 99.8 %" in "\n".join(shown)
    pictures = {each["picture"] for image in report["images"] for each in image["maps"]}
    assert {path.name for path in (tmp_path / "out").iterdir()} == pictures | {"explanations.json", "explanations.html"}
    assert "000-a_0.png.grad_cam.png" in pictures


def test_whatever_may_take_long_has_a_progress(place: Path, tmp_path: Path, monkeypatch) -> None:
    """It says after ten seconds what is being done."""
    done: list[str] = []
    monkeypatch.setattr(Progress, "__enter__", lambda self: done.append(self.label) or self)
    monkeypatch.setattr(Progress, "note", lambda self, what, *counts: done.append(what))
    assert explain(place, "bad/a/1.png", tmp_path / "out", "--method", "gradient") == 0
    assert done == [
        *("reading the images of --input", "1 are read", "copying the model", "loading the model"),
        *("explaining 1.png", "gradient", "explaining 1.png", "deletion test", "drawing and writing the pictures"),
    ]


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
    assert image["image"] == "1.png" and "score " in (tmp_path / "deep" / "out" / "explanations.html").read_text()
    assert {each["method"]: each["layer"] for each in image["maps"]} == {"anomaly_map": None, "grad_cam": "layer1.0.conv1"}
    assert image["filling"] in ("blur 1/32", "blur 1/8", "mean colour")


def test_a_limit_takes_the_first_by_name(place: Path, tmp_path: Path, capsys) -> None:
    settings = tmp_path / "explain.yaml"
    settings.write_text(yaml.safe_dump({"deletion": {"steps": 3, "random_orders": 1}, "method": "gradient"}))
    assert explain(place, "good", tmp_path / "out", "--limit", "2", "--config", str(settings)) == 0
    assert "more than 2 images; the first 2 by name are explained (--limit)" in capsys.readouterr().out
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
    (picture,) = [each["picture"] for each in image["maps"] if each["method"] == "gradient"]
    assert picture == f"000-large.png_tile_at_{left}_{top}.gradient.png"


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


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--input", "a.png"), "--model must be given without --image-id; got None. Add it, or name an image of the tables"),
        (("--model", "m"), "--input must be given without --image-id; got None."),
        (("--model", "m", "--input", "a.png", "--pictures", "p"), "--pictures must be left out without --image-id; got 'p'."),
        (("--image-id", "f" * 32, "--input", "a.png"), "--input must be left out with --image-id; got 'a.png'. The tables say"),
        (("--image-id", "a.png"), "--image-id must be 32 hex digits, as in the column image_id; got 'a.png'. Ask for it: flow"),
    ],
)
def test_flags_that_do_not_go_together(tmp_path: Path, capsys, flags: tuple[str, ...], message: str) -> None:
    with pytest.raises(SystemExit) as ended:
        run(main, [*flags, "--output", str(tmp_path / "out")])
    shown = capsys.readouterr().err
    assert ended.value.code == 2 and shown.startswith(f"error: {message}") and shown.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_wrong_flags_are_answered_before_torch_is_imported() -> None:
    code = "import sys; import jobs.explain; sys.exit(bool({'torch', 'scipy', 'captum'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_from_storage_into_storage(place: Path, s3_bucket: str, tmp_path: Path, capsys) -> None:
    upload_directory(place / "bad" / "a", f"{s3_bucket}/bad/a")
    upload_directory(place / "good", f"{s3_bucket}/good")
    upload_directory(place / "m", f"{s3_bucket}/m")
    (tmp_path / "explain.yaml").write_text(yaml.safe_dump({"cache_dir": str(tmp_path), "deletion": {"random_orders": 2}}))
    flags = ["--model", f"{s3_bucket}/m", "--method", "gradient", "--config", str(tmp_path / "explain.yaml")]
    for where, output in ((s3_bucket, f"{s3_bucket}/out"), (str(place), str(tmp_path / "out"))):
        with pytest.raises(SystemExit) as ended:
            run(main, [*flags, "--input", f"{where}/bad/a/1.png", "--good", f"{where}/good", "--output", output])
        assert not ended.value.code, capsys.readouterr().err
    store = open_store(f"{s3_bucket}/out")
    assert f"page: {s3_bucket}/out/explanations.html" in capsys.readouterr().out
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {entry.key for entry in store.list()} == names and len(names) == 4
    assert all(store.get(name) == (tmp_path / "out" / name).read_bytes() for name in names - {"explanations.html"})


def test_an_image_of_the_tables(place: Path, tmp_path: Path, capsys) -> None:
    """No model and no input is named; the pictures are those of the same image and model."""
    output, digest = str(tmp_path / "out"), artifact.read(place / "m").model_digest
    shutil.copytree(place / "bad" / "a", tmp_path / "in" / "a")
    publish(output, score_without_model(str(tmp_path / "in"), output, digest=digest))
    upload_directory(place / "m", Ledger(output, MODEL).artifact_uri(digest))
    rows = open_tables(output).connection.execute("select uri, image_id, score from scores").fetchall()
    ((image_id, score),) = [(image_id, score) for uri, image_id, score in rows if uri.endswith("/a/1.png")]
    flags = ["--output", output, "--image-id", image_id, "--pictures", str(tmp_path / "pictures"), "--method", "gradient"]
    with pytest.raises(SystemExit) as ended:
        run(main, flags)
    shown = capsys.readouterr()
    assert not ended.value.code, shown.err
    assert f"({score:.4g} in the tables)" in shown.out
    assert explain(place, "bad/a/1.png", tmp_path / "same", "--method", "gradient") == 0
    found, same = (json.loads((tmp_path / name / "explanations.json").read_text()) for name in ("pictures", "same"))
    assert found["images"][0]["image_id"] == image_id and found["images"][0]["published_score"] == pytest.approx(score)
    assert found["model_digest"] == digest
    keep = ("score", "score_deleted", "filling")
    assert [found["images"][0][name] for name in keep] == [same["images"][0][name] for name in keep]
    areas = [[(each["method"], each["deletion_auc"]) for each in one["images"][0]["maps"]] for one in (found, same)]
    assert areas[0] == areas[1]
    (tmp_path / "in" / "a" / "1.png").unlink()
    with pytest.raises(SystemExit) as ended:
        run(main, flags)
    errors = capsys.readouterr().err
    assert ended.value.code == 2 and errors.count("\n") == 1
    assert (
        "--image-id must be of images that are stored as they were scored; got 'a/1.png'. The first fault: the stored" in errors
    )
