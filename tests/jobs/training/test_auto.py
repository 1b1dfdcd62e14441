"""`flowscore train --detector auto`: the table, the winner's weights, what it refuses, and an interruption while it chooses."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from scipy import ndimage
from torch import Tensor

from jobs.command.entry import run
from jobs.command.errors import UsageError
from jobs.train import main
from jobs.training import auto
from jobs.training.fitting import check_held_out
from models import registry
from models.config import ArtifactConfig, BackboneConfig, InputConfig
from models.detector import FitRun
from models.detectors.ensemble import Ensemble
from models.features.store import ImageFeatures
from models.fitting.choice import Choice
from models.fitting.exam import Exam
from models.fitting.rehearsal import Rehearsal

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


@pytest.mark.parametrize("detector", ["auto", "ensemble"])
@pytest.mark.parametrize(
    ("share", "got"),
    [("0.01", "It holds out 0 of 0"), ("0.13", "It holds out 4 of 1")],  # a lot is held out whole
)
def test_too_few_held_out_images_neither_choose_nor_weigh(
    detector: str, share: str, got: str, goods: Path, tmp_path: Path, capsys
) -> None:
    flags = ("--detector", detector, "--selection-share", share)
    assert train(goods, tmp_path / "model", *flags, hyperparameters={"members": MEMBERS}) == 2
    shown = capsys.readouterr().err
    rule = f"--selection-share must be enough to hold out 8 images of 2 groups with --detector {detector}; got {share}"
    assert rule in shown and got in shown and "name one detector" in shown
    assert not (tmp_path / "model").exists()


def test_images_of_one_group_neither_choose_nor_weigh(goods: Path, tmp_path: Path) -> None:
    settings = SimpleNamespace(detector="auto", selection_share=0.2)
    with pytest.raises(UsageError, match="It holds out 20 of 1"):
        check_held_out(settings, ["lot"] * 20)  # type: ignore[arg-type]
    check_held_out(settings, ["lot", *["other"] * 7])  # type: ignore[arg-type]


def test_one_that_was_killed_while_it_chose_goes_on_with_the_defects_it_had_drawn(
    goods: Path, tmp_path: Path, capsys, monkeypatch
) -> None:
    options = {"workspace": str(tmp_path / "kept"), "hyperparameters": {"members": MEMBERS}}
    fit, make = Ensemble.fit, Exam.make

    def interrupted(*arguments: Any) -> None:
        raise KeyboardInterrupt

    def made_by_the_choice(exam: Exam, positions: Tensor) -> Any:
        assert not isinstance(exam.detector, Ensemble) or len(exam.detector.members) < len(MEMBERS) or not kept, "drawn again"
        return make(exam, positions)

    kept: list[Path] = []
    with monkeypatch.context() as patched:
        patched.setattr(Ensemble, "fit", lambda *arguments: interrupted() if not rehearsed(arguments[-1]) else fit(*arguments))
        assert train(goods, tmp_path / "model", "--detector", "auto", **options) == 130
    kept = list((tmp_path / "kept").glob("*/auto-synthetic*"))
    assert kept
    winner = auto.choose
    monkeypatch.setattr(auto, "choose", lambda *arguments: single(winner(*arguments)))
    monkeypatch.setattr(Exam, "make", made_by_the_choice)
    assert train(goods, tmp_path / "model", "--detector", "auto", **options) == 0
    assert not list((tmp_path / "kept").iterdir())


def rehearsed(run: FitRun) -> bool:
    return isinstance(run, Rehearsal)


def single(choice: Choice) -> Choice:
    return Choice(choice.candidates, next(each for each in choice.candidates if len(each.members) == 1))


def test_files_that_a_killed_process_has_left_are_written_over(goods: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    options = {"workspace": str(tmp_path / "kept"), "hyperparameters": {"members": MEMBERS}}
    take = auto.Examined.take

    def interrupted(*arguments: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(auto.Examined, "take", interrupted)
        assert train(goods, tmp_path / "model", "--detector", "auto", **options) == 130
    (folder,) = (tmp_path / "kept").iterdir()
    for name in ("auto-synthetic-pixels.bin", "auto-synthetic-scale0.bin"):  # as SIGKILL leaves them
        (folder / name).write_bytes(b"half a file")
    assert auto.Examined.take is take
    assert train(goods, tmp_path / "model", "--detector", "auto", **options) == 0
    assert not list((tmp_path / "kept").iterdir())


def test_a_candidate_is_examined_with_the_constants_of_its_score(tmp_path: Path) -> None:
    """CS-Flow's score `scales` has constants of held-out images; alone or among candidates, the exam sees the same score."""
    of_scales = {**MEMBERS[0], "hyperparameters": {**MEMBERS[0]["hyperparameters"], "score": "scales"}}
    network, size = BackboneConfig(name="test_resnet", weights="none"), InputConfig(height=64, width=64)
    config = ArtifactConfig(
        name="t", detector="ensemble", input=size, backbone=network, hyperparameters={"members": [of_scales, MEMBERS[1]]}
    )
    detector = registry.build(config)
    assert isinstance(detector, Ensemble)
    pixels = torch.randint(0, 256, (20, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    fitting, selection = torch.arange(12), torch.arange(12, 20)
    with ImageFeatures(detector, tmp_path, "good") as images:
        images.append(pixels)
        exam = auto.Examined()
        exam.take(detector, images, fitting, selection, FitRun(detector.Training()), tmp_path)
        csflow = registry.build(
            config.model_copy(update={"detector": "csflow", "hyperparameters": of_scales["hyperparameters"]})
        )
        own = images.of_part(csflow, [0, 1, 2, 3])
        csflow.fit(own, fitting, FitRun(csflow.Training(**of_scales["training"])))
        csflow.fit_constants(own, selection)
        with torch.inference_mode():
            expected = csflow.score_features(own.read(selection)).score
    torch.testing.assert_close(torch.from_numpy(exam.scores[0].good), expected, rtol=1e-4, atol=1e-4)
