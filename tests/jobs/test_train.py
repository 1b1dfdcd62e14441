"""`flowscore train` as a user calls it, on a few small images with a random backbone."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file
from scipy import ndimage

from jobs.command.entry import run
from jobs.images import good
from jobs.train import _precision, main
from jobs.training.phases import Phases
from jobs.training.workspace import LAYOUT
from models import artifact
from models.fitting import groups
from models.fitting.synthetic import FAMILIES
from pipeline.storage.copies import local_copy
from pipeline.storage.store import open_store

SMALL = {
    "weights": "none",
    "image_size": 64,
    "backbone": "mobilenetv1_100",
    "hyperparameters": {"hidden": 8, "whiten_dims": 8, "kernels": [3, 1]},
    "training": {"epochs": 2, "batch_size": 4},
    "device": "cpu",
}


def surface(seed: int, shape: tuple[int, int] = (72, 80)) -> np.ndarray:
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.standard_normal(shape), 2) * 150 + 128
    return np.clip(noise, 0, 255).astype(np.uint8)


@pytest.fixture
def goods(tmp_path: Path) -> Path:
    folder = tmp_path / "good"
    for lot in range(5):
        for number in range(4):
            path = folder / f"lot{lot}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(surface(100 * lot + number)).save(path)
    return folder


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "train.yaml"
    path.write_text(yaml.safe_dump(SMALL))
    return path


def train(goods: Path, out: Path, config: Path, *flags: str) -> int:
    arguments = ["--input", str(goods), "--model-out", str(out), "--config", str(config), *flags]
    with pytest.raises(SystemExit) as ended:
        run(main, arguments)
    return int(ended.value.code or 0)


def test_the_same_seed_gives_the_same_artifact(goods: Path, config: Path, tmp_path: Path, capsys) -> None:
    digests = []
    for name, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        assert train(goods, tmp_path / name, config, "--seed", seed) == 0
        digests.append(artifact.read(tmp_path / name).model_digest)
    assert digests[0] == digests[1] != digests[2]
    shown = capsys.readouterr().out
    assert "convolutions in" in shown and "no group on two sides" in shown


def test_groups_hashes_and_card(goods: Path, config: Path, tmp_path: Path) -> None:
    out = tmp_path / "model"
    flags = ("--key-pattern", "{lot}/{name}", "--group-key", "lot", "--selection-share", "0.2")
    assert train(goods, out, config, *flags) == 0
    trained = artifact.read(out).config.trained
    assert trained["groups"] == 5 and "lot" in trained["groups_by"]
    assert (trained["fit"], trained["selection"], trained["calibration"]) == (12, 4, 4)
    fit, selection = (trained["content_hashes"][name] for name in ("fit", "selection"))
    assert len(fit) == 12 * 32 and len(selection) == 4 * 32
    assert set(trained["synthetic_auroc"]) == set(FAMILIES)
    card = (out / "card.md").read_text()
    assert "12 to fit" in card and "seed 0" in card and "Not calibrated yet" in card


def test_share_0_is_said_on_the_card(goods: Path, config: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "model"
    assert train(goods, out, config, "--calibration-share", "0", "--selection-share", "0") == 0
    assert "no good image was kept" in (out / "card.md").read_text()
    assert "not calibrated" in capsys.readouterr().out
    assert artifact.read(out).config.trained["fit"] == 20


def test_bad_images_are_counted_and_left_out(goods: Path, config: Path, tmp_path: Path, capsys) -> None:
    (goods / "lot0" / "empty.png").write_bytes(b"")
    flags = ("--selection-share", "0")
    assert train(goods, tmp_path / "model", config, *flags) == 0
    trained = artifact.read(tmp_path / "model").config.trained
    assert sum(trained["unreadable"].values()) == 1 and trained["images"] == 20
    assert "not readable, left out: 1" in capsys.readouterr().out
    for number in range(3):
        (goods / "lot1" / f"broken{number}.jpg").write_bytes(b"\xff\xd8 not an image")
    assert train(goods, tmp_path / "other", config, *flags) == 3
    assert "4 of 24" in capsys.readouterr().err and not (tmp_path / "other").exists()


def test_excluded_images_are_left_out(goods: Path, config: Path, tmp_path: Path, capsys) -> None:
    excluded = tmp_path / "exclude.txt"
    excluded.write_text("# judged bad\r\nlot0\\1.png\r\n", encoding="utf-16")
    assert train(goods, tmp_path / "model", config, "--exclude", str(excluded), "--selection-share", "0") == 0
    assert artifact.read(tmp_path / "model").config.trained["excluded"] == 1
    excluded.write_text("lot0/1.png\nlot9/9.png\n")
    assert train(goods, tmp_path / "other", config, "--exclude", str(excluded)) == 2
    assert "'1 of 2 lines that name none'. Correct or remove 'lot9/9.png'" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_aspect_kept_on_a_rectangular_input(goods: Path, config: Path, tmp_path: Path) -> None:
    flags = ("--image-size", "64x128", "--aspect", "keep", "--selection-share", "0.2", "--epochs", "1")
    assert train(goods, tmp_path / "model", config, *flags) == 0
    found = json.loads((tmp_path / "model" / "config.json").read_text())
    size = {"height": 64, "width": 128, "resize": "pad", "overlap": 0.25, "scale": 1.0}
    assert found["input"] == {**size, "white_level": 65535}
    assert found["trained"]["epochs"] == 1


def test_shading_correction_is_kept_in_the_model_and_on_its_card(goods: Path, config: Path, tmp_path: Path) -> None:
    assert train(goods, tmp_path / "model", config, "--shading-correction", "--epochs", "1", "--selection-share", "0") == 0
    found = artifact.read(tmp_path / "model")
    assert found.config.input.shading_correction and artifact.load(found).shading is not None
    assert "each brought to even light first (shading correction)" in (tmp_path / "model" / "card.md").read_text()


def test_a_region_of_interest_is_kept_in_the_model_and_must_have_the_images_shape(
    goods: Path, config: Path, tmp_path: Path, capsys
) -> None:
    mask = np.zeros((36, 40), np.uint8)
    mask[6:30, 5:35] = 1
    for name, drawn in (("mask.png", mask), ("tall.png", mask.T)):
        Image.fromarray(drawn).save(tmp_path / name)
    assert train(goods, tmp_path / "other", config, "--roi", str(tmp_path / "tall.png")) == 2
    said = (
        "error: --roi must be a mask image of the images' aspect ratio; got '36 x 40 pixels'. lot0/0.png: the image has 80 x 72"
    )
    assert said in capsys.readouterr().err and not (tmp_path / "other").exists()

    flags = ("--roi", str(tmp_path / "mask.png"), "--epochs", "1", "--selection-share", "0.2")
    assert train(goods, tmp_path / "model", config, *flags) == 0
    line = f"region of interest: 50.0% of each image counts, by {tmp_path / 'mask.png'} (40 x 36 pixels)"
    assert line in capsys.readouterr().out.splitlines()
    found = artifact.read(tmp_path / "model").config.input.roi
    assert (found.mask() == mask).all() and found.share == 0.5
    assert "of which 50.0% counts (a region of interest)" in (tmp_path / "model" / "card.md").read_text()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--group-key", "lot"), "--group-key must be a field of --key-pattern"),
        (("--image-size", "64by64"), "image_size must be N or HEIGHTxWIDTH"),
        (("--weights", "/no/such/file"), "weights must be"),
        (("--detector", "nonesuch"), "detector must be one of"),
        (("--backbone", "mobilenetv1_0"), "backbone must be a timm model"),
        (("--exclude", "/no/such/list"), "--exclude must be"),
        (("--calibration-share", "2"), "calibration_share must be"),
        (("--seed", str(1 << 70)), "seed must be less than"),
        (("--members", ""), "--members must be given with a value"),
        (("--key-pattern", "{line"), "key_pattern must have its braces in pairs"),
        (("--key-pattern", "{line}/{date}/{lot}/{name}"), "key_pattern must be a pattern of the paths below /"),
    ],
)
def test_what_cannot_work_is_one_sentence(
    goods: Path, config: Path, tmp_path: Path, capsys, flags: tuple[str, ...], message: str
) -> None:
    assert train(goods, tmp_path / "model", config, *flags) == 2
    shown = capsys.readouterr().err
    assert message in shown and "Traceback" not in shown
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"backbone_kwargs": {"foo": 1}}, "backbone_kwargs must be arguments of 'mobilenetv1_100'; got {'foo': 1}"),
        ({"hyperparameters": {"foo": 1}}, "key of hyperparameters must be a setting of this detector; got 'foo'"),
        ({"detector": "padim", "hyperparameters": {}}, "key of training must be a setting of this detector; got 'epochs'"),
        ({"workspace": "/dev/null/x"}, "--workspace must be in a folder that can be written; got '/dev/null/x'"),
    ],
)
def test_a_wrong_setting_of_the_file_is_one_sentence(goods: Path, tmp_path: Path, capsys, setting: dict, message: str) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump(SMALL | {"training": {"epochs": 2}} | setting))
    assert train(goods, tmp_path / "model", path) == 2
    shown = capsys.readouterr().err
    assert message in shown and "Traceback" not in shown


@pytest.mark.parametrize("held", ["file", "folder"])
def test_a_place_with_other_files_is_refused_before_the_images_are_read(
    goods: Path, config: Path, tmp_path: Path, capsys, held: str
) -> None:
    out = tmp_path / "model"
    (out if held == "file" else out / "mine").parent.mkdir(exist_ok=True)
    (out if held == "file" else out / "mine").write_text("kept")
    assert train(goods, out, config) == 2
    shown = capsys.readouterr()
    assert "must be new, empty or an artifact" in shown.err and "reading" not in shown.err + shown.out


def test_too_few_images(goods: Path, config: Path, tmp_path: Path, capsys) -> None:
    assert train(goods / "lot0", tmp_path / "model", config) == 2
    assert "at least 8 readable good images" in capsys.readouterr().err


def test_files_that_are_no_pictures_stop_no_training(goods: Path, config: Path, tmp_path: Path, capsys) -> None:
    """Counted and said, not held against the share of unreadable images."""
    strays = {
        "manual.pdf": b"%PDF-1.7",
        "parts.docx": b"PK\x03\x04",
        "table.xlsx": b"PK\x03\x04",
        "notes": b"7 tiles",
        "empty": b"",
    }
    for name, content in strays.items():
        (goods / "lot0" / name).write_bytes(content)
    (goods / "lot0" / "notes.txt").write_text("see manual")
    flags = ("--selection-share", "0", "--epochs", "1")
    assert train(goods, tmp_path / "model", config, *flags) == 0
    trained = artifact.read(tmp_path / "model").config.trained
    assert trained["images"] == 20 and trained["unreadable"] == {}
    assert "ignored: 6 files that are no images" in capsys.readouterr().out


def test_an_archive_among_good_images_is_named(goods: Path, config: Path, tmp_path: Path, capsys) -> None:
    (goods / "lot0" / "more.zip").write_bytes(b"PK\x03\x04")
    flags = ("--selection-share", "0", "--epochs", "1")
    assert train(goods, tmp_path / "model", config, *flags) == 3
    assert "got 'lot0/more.zip' among 1" in capsys.readouterr().err
    (tmp_path / "exclude.txt").write_text("lot0/more.zip\n")
    assert train(goods, tmp_path / "model", config, *flags, "--exclude", str(tmp_path / "exclude.txt")) == 0


def test_a_linked_data_set_is_trained_from_when_asked(goods: Path, config: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "linked").mkdir()
    for number, path in enumerate(sorted(goods.rglob("*.png"))):
        (tmp_path / "linked" / f"{number}.png").symlink_to(path)
    flags = ("--selection-share", "0", "--epochs", "1")
    assert train(tmp_path / "linked", tmp_path / "model", config, *flags) == 2
    assert "Add --follow-links: 20 links there are not followed" in capsys.readouterr().err
    assert train(tmp_path / "linked", tmp_path / "model", config, *flags, "--follow-links") == 0
    assert artifact.read(tmp_path / "model").config.trained["images"] == 20


def test_members_chooses_what_is_trained_on(goods: Path, config: Path, tmp_path: Path) -> None:
    for path in sorted(goods.rglob("*.png")):
        path.with_suffix(".mask.bmp").write_bytes(path.read_bytes())
    flags = ("--selection-share", "0", "--epochs", "1", "--members", "*.png")
    assert train(goods, tmp_path / "model", config, *flags) == 0
    assert artifact.read(tmp_path / "model").config.trained["images"] == 20


def test_a_map_threshold_needs_enough_held_out_pieces(goods: Path, config: Path, tmp_path: Path, capsys) -> None:
    """One lot of four images is held out; a share of 20 % needs four pieces, and a lot that is kept together counts once."""
    plain, given = ("--selection-share", "0.2"), tmp_path / "share.yaml"
    given.write_text(yaml.safe_dump(SMALL | {"region_share": 0.2}))
    keys = ("--key-pattern", "{lot}/{name}")
    assert train(goods, tmp_path / "five", config, *keys, *plain) == 0
    assert "no regions: 4 held-out good pieces (by image)" in (said := capsys.readouterr().out) and "; 19 can" in said
    assert train(goods, tmp_path / "twenty", given, *keys, *plain) == 0
    assert "a new good piece exceeds it with at most 0.2, by 4 held out (image)" in capsys.readouterr().out
    assert train(goods, tmp_path / "lots", given, *keys, *plain, "--group-key", "lot") == 0
    said = capsys.readouterr().out
    assert "no regions: 1 held-out good pieces (by lot)" in said
    assert "few images: 1 by lot kept for calibration can promise" in said and "1 by lot for selection set no threshold" in said
    thresholds = [artifact.read(tmp_path / name).config.map_threshold for name in ("five", "twenty", "lots")]
    assert thresholds[0] is thresholds[2] is None and thresholds[1] is not None


@pytest.mark.parametrize(
    ("wanted", "device", "native", "chosen", "says"),
    [
        ("auto", "cuda", True, "fp16", "in fp16, the rest"),
        ("auto", "cuda", False, "fp16", "in fp16, the rest"),
        ("auto", "cpu", True, "bf16", "in bf16, the rest"),
        ("auto", "cpu", False, "float32", "in float32 (no native bf16 here), the rest"),
        ("bf16", "cuda", False, "bf16", "in bf16 (no native bf16 here), the rest"),
        ("fp16", "cpu", True, "fp16", "in fp16 (a CPU computes it in float32 and rounds), the rest"),
    ],
)
def test_the_precision_is_chosen_by_the_device(wanted, device, native, chosen, says, monkeypatch, capsys) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": native})
    # On a T4 bf16 is emulated: torch calls that supported unless it is asked.
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or native)
    assert _precision(wanted, device) == chosen
    assert says in capsys.readouterr().out


def test_the_batch_size_is_the_devices_or_the_one_given(goods: Path, config: Path, tmp_path: Path) -> None:
    assert train(goods, tmp_path / "a", config) == 0
    config.write_text(yaml.safe_dump(SMALL | {"batch_size": 5, "precision": "fp16"}))
    assert train(goods, tmp_path / "b", config) == 0
    ones, others = (artifact.read(tmp_path / name).config for name in "ab")
    assert (ones.batch_size, others.batch_size, others.precision) == (16, 5, "fp16")
    assert artifact.load(artifact.read(tmp_path / "b")).config.precision == "fp16"


def test_a_model_is_replaced_only_with_overwrite(goods: Path, config: Path, tmp_path: Path, capsys) -> None:
    out, flags = tmp_path / "model", ("--selection-share", "0", "--epochs", "1")
    assert train(goods, out, config, *flags) == 0
    first = artifact.read(out).model_digest
    capsys.readouterr()
    assert train(goods, out, config, *flags, "--seed", "1") == 2
    shown = capsys.readouterr()
    assert f"digest {first[:12]}, written 20" in shown.err and "--overwrite" in shown.err
    assert shown.out == "" and "reading" not in shown.err and artifact.read(out).model_digest == first
    assert train(goods, out, config, *flags, "--seed", "1", "--overwrite") == 0
    assert artifact.read(out).model_digest != first


def test_a_model_that_came_meanwhile_stays(goods: Path, config: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    """Two trainings to one place: the later one is refused, and with a workspace its work is kept."""
    out, workspace = tmp_path / "model", tmp_path / "workspace"
    flags = ("--selection-share", "0", "--epochs", "1", "--workspace", str(workspace))
    group_images = groups.group_images

    def meanwhile(*arguments):
        out.mkdir()
        (out / artifact.DIGESTS).write_text('{"model_digest": "0123456789abcdef"}')
        return group_images(*arguments)

    monkeypatch.setattr(groups, "group_images", meanwhile)
    assert train(goods, out, config, *flags) == 2
    assert "It holds the model with digest 0123456789ab" in capsys.readouterr().err
    assert [path.name for path in out.iterdir()] == [artifact.DIGESTS]
    monkeypatch.undo()
    assert train(goods, out, config, *flags, "--overwrite") == 0
    assert "none is read again" in capsys.readouterr().out and artifact.read(out).config.name


def test_a_calibrated_model_in_storage_is_replaced_whole(goods: Path, config: Path, tmp_path: Path, s3_bucket: str) -> None:
    """A calibration of the model before belongs to no other."""
    out, flags = f"{s3_bucket}/model", ("--selection-share", "0", "--epochs", "1")
    assert train(goods, out, config, *flags) == 0
    store = open_store(out)
    for name in artifact.CALIBRATION_FILES:
        store.put(name, b"of the first model")
    assert train(goods, out, config, *flags, "--seed", "1") == 2
    assert train(goods, out, config, *flags, "--seed", "1", "--overwrite") == 0
    assert artifact.read(local_copy(out, tmp_path / "cache")).calibration_digest is None


def test_ten_images_promise_nothing_and_say_so_in_one_line(goods: Path, config: Path, tmp_path: Path, capsys) -> None:
    for path in sorted(goods.rglob("*.png"))[10:]:
        path.unlink()
    assert train(goods, tmp_path / "model", config) == 0
    lines = capsys.readouterr().out.splitlines()
    to_fit, few = [line for line in lines if line.startswith("few images: ")]
    assert to_fit.startswith("few images: 7 to fit; on the magnetic tiles csflow")
    assert "2 kept for calibration can promise no rate of false calls below 33.3 %" in few and "1 for selection" in few
    assert not [line for line in lines if "AUROC" in line and line != to_fit]
    made = artifact.read(tmp_path / "model").config
    assert made.map_threshold is None and made.trained["synthetic_auroc"] == {}
    assert "1 selection images are too few" in (tmp_path / "model" / "card.md").read_text()


INTERRUPTIBLE = ("--selection-share", "0.2", "--epochs", "2")
KILLED = """
import os, signal, sys
from jobs.command.entry import run
from jobs.train import main
from jobs.training.phases import Phases

step = Phases.step

def killed(self, name, taken):
    if (name, taken.epoch) == ("selection", 1):
        os.kill(os.getpid(), signal.SIGKILL)
    step(self, name, taken)

Phases.step = killed
run(main, sys.argv[1:])
"""


def test_a_training_that_is_killed_goes_on_and_ends_with_the_same_model(
    goods: Path, config: Path, tmp_path: Path, capsys
) -> None:
    """By a signal that no process can catch: no line of it runs afterwards."""
    assert train(goods, tmp_path / "whole", config, *INTERRUPTIBLE) == 0
    place, out = tmp_path / "kept", tmp_path / "model"
    flags = ["--input", str(goods), "--model-out", str(out), "--config", str(config), *INTERRUPTIBLE, "--workspace", str(place)]
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, *flags], capture_output=True, text=True, timeout=240, cwd=Path(__file__).parents[2]
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not out.exists()
    capsys.readouterr()
    assert train(goods, out, config, *INTERRUPTIBLE, "--workspace", str(place)) == 0
    shown = capsys.readouterr()
    assert "going on with the 20 images that were read before" in shown.out
    assert "going on at epoch 2 of 2 of the selection" in shown.out
    assert "reading: " not in shown.err and "phase 3 of 5: selecting" in shown.err and "phase 2 of 5" not in shown.err
    assert artifact.read(out).model_digest == artifact.read(tmp_path / "whole").model_digest
    assert not list(place.iterdir())


def test_what_is_kept_is_not_used_for_other_settings_or_images(
    goods: Path, config: Path, tmp_path: Path, capsys, monkeypatch
) -> None:
    place, out = tmp_path / "kept", tmp_path / "model"

    def interrupted(self, *arguments):
        raise KeyboardInterrupt

    kept_up_to = {"step": "the same command goes on where this one stopped", "begin": "this command has kept nothing new"}
    for method, said in reversed(kept_up_to.items()):  # `begin` is that of the reading
        with monkeypatch.context() as patched:
            patched.setattr(Phases, method, interrupted)
            assert train(goods, out, config, *INTERRUPTIBLE, "--workspace", str(place)) == 130
            told = capsys.readouterr().err.splitlines()
            assert told[-2].startswith(said) and told[-1] == "exit 130: interrupted"
            assert train(goods, out, config, *INTERRUPTIBLE) == 130
            assert capsys.readouterr().err.splitlines()[-2].startswith("without --workspace nothing is kept")
    (kept,) = place.iterdir()
    read_again: list[str] = []
    read = good.read_good_images
    monkeypatch.setattr(good, "read_good_images", lambda *arguments: (read_again.append("read"), read(*arguments))[1])
    for flags, layout in ((("--seed", "1"), LAYOUT), ((), LAYOUT + 1), ((), LAYOUT)):
        monkeypatch.setattr("jobs.training.workspace.LAYOUT", layout)
        if not flags and layout == LAYOUT:
            Image.fromarray(surface(999)).save(goods / "lot0" / "new.png")
        assert train(goods, out, config, *INTERRUPTIBLE, *flags, "--overwrite", "--workspace", str(place)) == 0
        assert f"not used: 1 of other images, settings, versions or machines in {place}, such as {kept.name}" in (
            capsys.readouterr().out
        )
        assert list(place.iterdir()) == [kept] and read_again.pop() == "read"


def test_light_is_recorded_in_the_model_and_off_leaves_no_trace(goods: Path, config: Path, tmp_path: Path, capsys) -> None:
    flags = ("--selection-share", "0.2", "--epochs", "1")
    found = {}
    for name, more in (("plain", ()), ("lit", ("--light", "0.4"))):
        assert train(goods, tmp_path / name, config, *flags, *more) == 0
        found[name] = artifact.read(tmp_path / name)
        said = capsys.readouterr().err
        assert ("making copies of the images in other light" in said) == bool(more)
    assert "light" not in found["plain"].config.trained
    assert found["lit"].config.trained["light"] == {"strength": 0.4, "copies": 1}
    assert found["lit"].model_digest != found["plain"].model_digest
    assert "light that differs by up to 40 %, 1 of each" in (tmp_path / "lit" / "card.md").read_text()


def test_a_transformer_from_a_local_file(goods: Path, tmp_path: Path, capsys) -> None:
    """The command of docs/accuracy.md, with random weights and two blocks."""
    name, kwargs = "vit_small_patch14_dinov2", {"depth": 2}
    network = timm.create_model(name, pretrained=False, img_size=518, **kwargs)
    save_file({key: value.clone() for key, value in network.state_dict().items()}, tmp_path / "dinov2.safetensors")
    config, out = tmp_path / "vit.yaml", tmp_path / "model"
    settings = {"backbone_kwargs": {"dynamic_img_size": True, **kwargs}, "hyperparameters": {"bank_size": 100}}
    config.write_text(yaml.safe_dump(settings))
    flags = ["--detector", "patchcore", "--backbone", name, "--weights", f"{tmp_path}/dinov2.safetensors", "--image-size", "70"]
    assert train(goods, out, config, *flags, "--device", "cpu") == 0
    found = artifact.read(out).config
    assert found.backbone is not None and found.backbone.licence == "apache-2.0" and found.map_width == 5
    assert "the backbone's weights have the licence apache-2.0" in (out / "card.md").read_text(encoding="utf-8")
