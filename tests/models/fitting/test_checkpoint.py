"""A fit that was interrupted anywhere goes on to the bits of one that never was, whatever the detector."""

from pathlib import Path

import pytest
import torch
from tiny_model import BRIEF_MEMBERS
from torch import Tensor, nn

from models import registry
from models.backbones.backbone import BackboneConfig
from models.config import ArtifactConfig, InputConfig
from models.detector import Detector, FitRun, Step, Work
from models.features.store import ImageFeatures
from models.fitting.checkpoint import Checkpoint, Generators
from models.fitting.fit import Fitted, fit

GOODS = 9
SMALL = {
    "csflow": {"hidden": 4, "whiten_dims": 4, "kernels": [3], "score": "scales"},
    "differnet": {"hidden": 4, "blocks": 2, "transforms": 2},
    "cflow": {"steps": 1, "whiten_dims": 4},
    "fastflow": {"steps": 2, "whiten_dims": 4},
    "padim": {"dims": 8},
    "patchcore": {"bank_size": 20},
    "patchsvdd": {"bank_size": 20},
    "ensemble": BRIEF_MEMBERS,
}
WITHOUT_EPOCHS = ("padim", "patchcore")
BRIEF = {"epochs": 2, "epoch_steps": 0, "batch_size": 6, "noise": 0.1, "pairs_per_image": 1}


class Killed(Exception):
    """Stands for the end of the process."""


def build(name: str) -> Detector:
    size, network = InputConfig(height=64, width=64), BackboneConfig(name="test_resnet", weights="none")
    config = {"name": "tiny", "detector": name, "input": size, "backbone": network, "hyperparameters": SMALL[name]}
    return registry.build(ArtifactConfig(**config))


def photographs() -> Tensor:
    """(N, 64, 64, 3) uint8: smooth coloured blobs with grain."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(GOODS, 3, 6, 6, generator=generator)
    smooth = nn.functional.interpolate(coarse, size=(64, 64), mode="bicubic") * 180 + 40
    grain = 12 * torch.randn(GOODS, 3, 64, 64, generator=generator)
    return (smooth + grain).clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()  # (N, 64, 64, 3)


class Run:
    """One process that fits; it may end at a step (phase, epoch, number)."""

    def __init__(self, name: str, folder: Path, dies_at: tuple[str, int, int] | None = None, dies_in: str = "") -> None:
        """dies_in: phase and work of a member of an ensemble, whose steps are work."""
        self.name, self.folder, self.dies_at, self.dies_in = name, folder, dies_at, dies_in
        self.phase = ""
        self.lines: list[str] = []
        self.steps: list[tuple[str, int, int]] = []

    def on_work(self, work: Work) -> None:
        if self.dies_in == f"{self.phase}, {work.what} {work.done}":
            raise Killed

    def on_phase(self, phase: str) -> None:
        self.phase = phase

    def on_step(self, phase: str, step: Step) -> None:
        if self.dies_at == (phase, step.epoch, step.step):
            raise Killed
        self.steps.append((phase, step.epoch, step.step))

    def fit(self, identity: str | None = "these") -> tuple[Fitted, dict[str, Tensor]]:
        self.folder.mkdir(exist_ok=True)
        detector = build(self.name)
        known = {key: value for key, value in BRIEF.items() if key in detector.Training.model_fields}
        with ImageFeatures(detector, self.folder, "good", "cpu", identity, self.lines.append) as images:
            if images.about is None:
                images.append(photographs())
                images.complete("read")
            run = FitRun(detector.Training(**known), on_work=self.on_work)
            sets = torch.arange(6), torch.arange(6, GOODS)
            groups = ["all"] * (GOODS - 6)  # one group: no bootstrap, which takes longer than the rest
            told = {"on_phase": self.on_phase, "on_step": self.on_step, "say": self.lines.append, "identity": identity}
            told["whole_maxima"] = lambda frozen: frozen.score(photographs()[6:]).anomaly_map.amax(dim=(1, 2)).numpy()
            found = fit(detector, images, *sets, groups, run, 9, self.folder, **told)
        return found, {key: value.clone() for key, value in detector.state_dict().items()}


def same(one: tuple[Fitted, dict[str, Tensor]], other: tuple[Fitted, dict[str, Tensor]]) -> bool:
    assert one[1].keys() == other[1].keys()
    different = [key for key, value in one[1].items() if not torch.equal(value, other[1][key])]
    first, second = vars(one[0]).copy(), vars(other[0]).copy()
    maxima = first.pop("held_out_maxima"), second.pop("held_out_maxima")
    return not different and first == second and bool((maxima[0] == maxima[1]).all())


@pytest.mark.parametrize("name", [name for name in registry.names() if name not in ("ensemble", *WITHOUT_EPOCHS)])
def test_a_fit_that_is_killed_again_and_again_ends_with_the_same_bits(name: str, tmp_path: Path) -> None:
    """In the first epoch, in a later one, where the training after the selection begins, in its last epoch, after it."""
    whole = Run(name, tmp_path / "whole")
    expected = whole.fit(identity=None)
    last_step = whole.steps[-1][2]
    assert whole.steps[-1] == ("training", 1, last_step) and not list((tmp_path / "whole").glob("*.state"))

    folder = tmp_path / "killed"
    at = [("selection", 0, 0), ("selection", 1, 0), ("training", 0, 0), ("training", 1, last_step)]
    goes_on = ["", "", "going on at epoch 2 of 2 of the selection", "going on at epoch 1 of 2 of the training"]
    for dies_at, line in zip(at, goes_on, strict=True):
        killed = Run(name, folder, dies_at)
        with pytest.raises(Killed):
            killed.fit()
        assert [each for each in killed.lines if each.startswith("going on")] == [line] * bool(line)
        assert ("Gaussian" in "".join(killed.lines)) == (dies_at == at[0])  # later the defects are there
    found = Run(name, folder)
    assert same(found.fit(), expected)
    assert "going on at epoch 2 of 2 of the training" in found.lines
    assert {step[:2] for step in found.steps} == {("training", 1)}
    again = Run(name, folder)  # killed while the model was saved
    assert same(again.fit(), expected) and again.steps == []
    assert "going on after the last epoch of the training" in again.lines


def test_an_ensemble_goes_on_inside_its_members(tmp_path: Path) -> None:
    """Killed in a member's second epoch, of the selection and of the training; the scales too are those of one that was not."""
    expected = Run("ensemble", tmp_path / "whole").fit(identity=None)
    for dies_in in ("selection, fitting csflow 2", "training, fitting csflow 3"):
        with pytest.raises(Killed):
            Run("ensemble", tmp_path / "killed", dies_in=dies_in).fit()
    assert (tmp_path / "killed" / "training-member-0.state").exists()
    assert same(Run("ensemble", tmp_path / "killed").fit(), expected)


@pytest.mark.parametrize("name", WITHOUT_EPOCHS)
def test_a_fit_without_epochs_goes_on_with_the_exam_of_its_first_one(name: str, tmp_path: Path) -> None:
    expected = Run(name, tmp_path / "whole").fit(identity=None)
    with pytest.raises(Killed):
        Run(name, tmp_path / "killed", dies_at=("training", 0, 0)).fit()
    again = Run(name, tmp_path / "killed")
    assert same(again.fit(), expected)
    assert again.steps == [("training", 0, 0)] and "going on with the training" in again.lines


def test_damaged_and_strange_states_are_told_and_not_used(tmp_path: Path) -> None:
    expected = Run("csflow", tmp_path / "whole").fit(identity=None)
    folder = tmp_path / "killed"
    with pytest.raises(Killed):
        Run("csflow", folder, ("selection", 1, 0)).fit()
    for name in ("selection.state", "synthetic-scale0.bin", "good-pixels.bin"):
        content = bytearray((folder / name).read_bytes())
        content[len(content) // 2] ^= 1
        (folder / name).write_bytes(content)
    again = Run("csflow", folder)
    assert same(again.fit(), expected)
    told = [line for line in again.lines if line.startswith("not used: ")]
    assert [line.split()[2] for line in told] == ["good-pixels.bin", "selection.state", "synthetic-scale0.bin"]
    assert all("is damaged" in line for line in told)
    other = Run("csflow", folder)
    assert same(other.fit(identity="others"), expected)
    assert len([line for line in other.lines if "is of other images or settings" in line]) == 4


def test_what_is_saved_is_put_into_parts_that_are_kept_later(tmp_path: Path) -> None:
    first, generator = Checkpoint(tmp_path / "a.state", "tile"), torch.Generator().manual_seed(5)
    assert (first.epochs, first.ended) == (0, False)
    first.keep(random=Generators(generator))
    drawn = torch.rand(3, generator=generator)
    first.save(2, ended=True)
    expected = torch.rand(3, generator=generator)
    again, other = Checkpoint(tmp_path / "a.state", "tile"), torch.Generator()
    again.keep(random=Generators(other))
    assert (again.epochs, again.ended) == (2, True)
    found = torch.rand(3, generator=other)
    assert torch.equal(found, expected) and not torch.equal(found, drawn)
