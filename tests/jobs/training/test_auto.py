"""`flowscore train --detector auto`: the table, the winner's weights, what it refuses, and an interruption while it chooses."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from scipy import ndimage

from jobs.command.entry import run
from jobs.train import main
from jobs.training import auto

MEMBERS: list[dict[str, Any]] = [
    {
        "detector": "csflow",
        "hyperparameters": {"hidden": 8, "whiten_dims": 8, "kernels": [3]},
        "training": {"epochs": 1, "epoch_steps": 4, "batch_size": 4},
    },
    {"detector": "padim", "hyperparameters": {"dims": 8}},
]
SETTINGS = {"weights": "none", "image_size": 64, "backbone": "test_resnet", "device": "cpu"}


@pytest.fixture(scope="module")
def goods(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("good")
    for lot in range(8):
        for number in range(4):
            rng = np.random.default_rng(100 * lot + number)
            surface = ndimage.gaussian_filter(rng.standard_normal((72, 80)), 2) * 150 + 128
            path = folder / f"lot{lot}" / f"{number}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(np.clip(surface, 0, 255).astype(np.uint8)).save(path)
    return folder


def train(goods: Path, out: Path, *flags: str, **settings: Any) -> int:
    config = out.parent / f"{out.name}.yaml"
    config.write_text(yaml.safe_dump(SETTINGS | settings))
    flags = ("--key-pattern", "{lot}/{name}", "--selection-share", "0.25", "--config", str(config), *flags)
    with pytest.raises(SystemExit) as ended:
        run(main, ["--input", str(goods), "--model-out", str(out), *flags])
    return int(ended.value.code or 0)


def taken(shown: str) -> list[str]:
    (line,) = [line for line in shown.splitlines() if line.endswith("<- taken")]
    return line.split("  ")[0].split(" + ")


def test_the_winner_has_the_weights_that_it_has_when_it_is_named(goods: Path, tmp_path: Path, capsys) -> None:
    chosen, named = tmp_path / "chosen", tmp_path / "named"
    assert train(goods, chosen, "--detector", "auto", hyperparameters={"members": MEMBERS}) == 0
    output = capsys.readouterr()
    names = taken(output.out)
    members = [member for member in MEMBERS if member["detector"] in names]
    own = (
        {"hyperparameters": {"members": members}}
        if len(members) > 1
        else {key: value for key, value in members[0].items() if key != "detector"}
    )
    assert train(goods, named, "--detector", "ensemble" if len(members) > 1 else names[0], **own) == 0
    weights = [(folder / "model.safetensors").read_bytes() for folder in (chosen, named)]
    assert weights[0] == weights[1]
    configs = [json.loads((folder / "config.json").read_text()) for folder in (chosen, named)]
    candidates = configs[0]["trained"].pop("candidates")
    assert configs[0] == configs[1]  # the name too, which is made of the detector that was taken
    assert sorted(map(sorted, (each["members"] for each in candidates))) == [["csflow"], ["csflow", "padim"], ["padim"]]
    assert candidates[0]["behind"] == candidates[0]["error"] == 0
    assert "phase 2 of 6: choosing a detector by synthetic defects" in output.err


@pytest.mark.parametrize("winner", [("csflow",), ("padim",), ("csflow", "padim")])
def test_whichever_is_taken_can_be_trained(winner: tuple[str, ...], goods: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    """With a workspace, in bf16, and for light: with all that the fit of the winner has of its own."""
    found = auto.choose

    def choose(*arguments: Any) -> Any:
        choice = found(*arguments)
        return type(choice)(choice.candidates, next(each for each in choice.candidates if each.members == winner))

    monkeypatch.setattr(auto, "choose", choose)
    options = {"light": 0.4, "precision": "bf16", "workspace": str(tmp_path / "kept"), "hyperparameters": {"members": MEMBERS}}
    assert train(goods, tmp_path / "model", "--detector", "auto", **options) == 0
    assert taken(capsys.readouterr().out) == list(winner)
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config["detector"] == (winner[0] if len(winner) == 1 else "ensemble")


def test_a_choice_that_was_made_is_not_made_again(goods: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    options = {"workspace": str(tmp_path / "kept"), "hyperparameters": {"members": MEMBERS}}
    alone = auto._alone

    def interrupted(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(auto, "_alone", interrupted)
    assert train(goods, tmp_path / "model", "--detector", "auto", **options) == 130
    shown = capsys.readouterr()
    assert "the same command goes on where this one stopped" in shown.err
    first = taken(shown.out)
    monkeypatch.setattr(auto, "_alone", alone)
    monkeypatch.setattr(auto.Examined, "take", lambda *arguments: pytest.fail("examined again"))
    assert train(goods, tmp_path / "model", "--detector", "auto", **options) == 0
    assert taken(capsys.readouterr().out) == first
    assert not list((tmp_path / "kept").iterdir())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 3}, "epochs must be left out with --detector auto; got 3. Give each candidate its own"),
        ({"training": {"batch_size": 3}}, "training must be left out with --detector auto; got {'batch_size': 3}"),
        ({"training": {"epochs": 3}}, "epochs must be left out with --detector auto; got 3"),
        ({"taps": ["layer2"]}, "taps must be left out with --detector auto; got"),
        ({"selection_share": 0}, "selection_share must be over 0 with --detector auto, which chooses"),
        ({"hyperparameters": {"members": [MEMBERS[1], MEMBERS[1]]}}, "must be different detectors with --detector auto"),
        ({"hyperparameters": {"dims": 3}}, "key of hyperparameters must be a setting of this detector; got 'dims'"),
    ],
)
def test_what_cannot_work_is_one_sentence(settings: dict[str, Any], message: str, goods: Path, tmp_path: Path, capsys) -> None:
    config = tmp_path / "train.yaml"
    config.write_text(yaml.safe_dump(SETTINGS | settings))
    with pytest.raises(SystemExit) as ended:
        run(main, ["--input", str(goods), "--model-out", str(tmp_path / "m"), "--detector", "auto", "--config", str(config)])
    shown = capsys.readouterr().err
    assert ended.value.code == 2 and message in shown and "Traceback" not in shown


def test_too_few_held_out_images_cannot_choose(goods: Path, tmp_path: Path, capsys) -> None:
    flags = ("--detector", "auto", "--selection-share", "0.01")
    assert train(goods, tmp_path / "model", *flags, hyperparameters={"members": MEMBERS}) == 2
    shown = capsys.readouterr().err
    assert "--selection-share must be enough to hold out images to choose by; got 0.01" in shown
    assert "Give more images, or name a detector" in shown
