"""A rehearsal says what the whole fit takes, goes through little of it, and leaves no trace."""

from types import SimpleNamespace

import pytest
import torch
from tiny_model import BRIEF_MEMBERS, tiny_config
from torch import nn

from models import registry
from models.backbones.config import BackboneConfig
from models.detector import Detector, FitRun
from models.fitting import rehearsal
from models.fitting.loop import TrainingConfig, train
from models.fitting.rehearsal import Pace, Rehearsal, Sample, rehearse


class Clock:
    now = 50.0

    def __call__(self) -> float:
        return self.now


def brief(detector: Detector, **settings: int) -> FitRun:
    fields = {"epochs": 2, "epoch_steps": 0, "batch_size": 4} | settings
    return FitRun(detector.Training(**{name: fields[name] for name in fields if name in detector.Training.model_fields}))


@pytest.mark.parametrize(("epochs", "exam_s"), [(5, 7.0), (1, 7.0), (5, 0.0)])
def test_what_is_left_out_counts_as_long_as_what_was_gone_through(epochs: int, exam_s: float) -> None:
    """Ten steps of 2 s an epoch, the very first one of 9 s, and an exam after each epoch."""
    clock, steps = Clock(), []
    pace = Pace(clock)

    def read(positions: torch.Tensor) -> list[torch.Tensor]:
        clock.now += 2.0 if steps else 9.0
        return [positions[:, None].float()]

    def after_epoch(epoch: int) -> bool:
        clock.now += exam_s
        return False

    layer = nn.Linear(1, 1)
    config = TrainingConfig(epochs=epochs, batch_size=4)
    run = Rehearsal(config, on_step=steps.append, after_epoch=after_epoch if exam_s else None, pace=pace)
    begun = pace.now()
    train(
        layer, lambda maps: layer(maps[0]).mean(), lambda maps: maps, SimpleNamespace(read=read), torch.arange(40), config, run
    )
    assert len(steps) == 3
    assert pace.now() - begun == pytest.approx(epochs * (9 + 9 * 2 + exam_s))
    assert pace.examined_s == pytest.approx(epochs * exam_s)


def test_a_pass_over_images_and_one_within_it() -> None:
    clock = Clock()
    pace = Pace(clock)
    run = Rehearsal(TrainingConfig(), pace=pace)
    begun = pace.now()
    for _ in run.batches("outer", torch.arange(100), size=10):
        for _ in run.batches("inner", torch.arange(20), size=1):
            clock.now += 1.0
    assert pace.now() - begun == pytest.approx(10 * 20)
    assert clock.now - 50 == 3 * 3


def of_detector(name: str) -> dict:
    if name != "ensemble":
        return {"hyperparameters": {}}
    return {"hyperparameters": BRIEF_MEMBERS, "backbone": BackboneConfig(name="test_resnet", weights="none")}


@pytest.mark.parametrize("name", registry.names())
def test_little_is_read_of_many_images_and_the_fit_after_it_gives_the_same_bits(name: str, monkeypatch) -> None:
    monkeypatch.setattr(rehearsal, "ENOUGH_S", 0.0)
    detector, other = (registry.build(tiny_config(detector=name, **of_detector(name))) for _ in range(2))
    sample, read = Sample(detector, "cpu"), []
    whole_read = sample.read
    sample.read = lambda positions: (read.append(len(positions)), whole_read(positions))[1]  # type: ignore[method-assign]
    found = rehearse(sample, fit=10_000, selection=1_000, run=brief(detector))
    assert sum(read) < 1_000 and not detector.fitted
    assert min(found) > 0 and found.training_s > 0
    del sample.read
    few = torch.arange(12)
    for each in (detector, other):
        each.fit(Sample(each, "cpu"), few, brief(each))
    ones, others = detector.state_dict(), other.state_dict()
    assert all(torch.equal(ones[key], others[key]) for key in others)
    scored = [each.score(sample.pixels[:2]) for each in (detector, other)]
    assert all(torch.equal(one, two) for one, two in zip(*scored, strict=True))


@pytest.mark.parametrize("name", ["patchcore", "patchsvdd"])
def test_the_choice_of_a_bank_counts_in_full_and_little_of_it_is_done(name: str, monkeypatch) -> None:
    """A row takes a second for each of the vectors that it is chosen from."""
    rows, size, images = 640, 4 * 640, 900
    clock, chosen = Clock(), []
    multiplied = torch.addmv

    def ticking(sums: torch.Tensor, vectors: torch.Tensor, vector: torch.Tensor, alpha: float) -> torch.Tensor:
        clock.now += len(vectors)
        chosen.append(len(vectors))
        return multiplied(sums, vectors, vector, alpha=alpha)

    monkeypatch.setattr(torch, "addmv", ticking)
    monkeypatch.setattr(rehearsal, "ENOUGH_S", 0.0)
    detector = registry.build(tiny_config(detector=name, hyperparameters={"bank_size": rows, "bank": "coreset"}))
    run, pace = brief(detector), Pace(clock)
    begun = pace.now()
    detector.fit(Sample(detector, "cpu"), torch.arange(images), Rehearsal(run.training, pace=pace))
    assert pace.now() - begun == pytest.approx(rows * size)
    assert len(chosen) <= 100 and set(chosen) == {size}


def test_without_a_selection_there_are_no_defects() -> None:
    detector = registry.build(tiny_config())
    sample = Sample(detector, "cpu")
    alone = rehearse(sample, fit=32, selection=0, run=brief(detector))
    assert alone.defects_s == alone.selection_s == 0 < alone.training_s
    assert rehearse(sample, fit=32, selection=8, run=brief(detector)).defects_s > 0
