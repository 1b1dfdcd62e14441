"""The criterion, the severity's choice and early stopping."""

import numpy as np
import pytest

from models.fitting import synthetic
from models.fitting.selection import EarlyStop, ExamScores, choose_severity, logit, standard_error


def test_criterion_is_the_mean_logit_auroc() -> None:
    good = np.arange(10.0)
    found = ExamScores(good, {"half": good, "perfect": good + 100}).criterion()
    assert found.families == {"half": 0.5, "perfect": 1.0}
    assert found.value == pytest.approx((logit(0.5) + logit(0.999)) / 2)


def test_severity_is_the_one_nearest_to_the_target() -> None:
    rng = np.random.default_rng(0)
    good = rng.standard_normal(2000)
    asked = []

    def gaussian(severity: float) -> np.ndarray:
        asked.append(severity)
        return rng.standard_normal(2000) + 1.2 * severity  # AUROC 0.8 at a shift of 1.19

    assert choose_severity("spot", gaussian, good) == 1.0
    assert len(asked) <= 3 and set(asked) <= set(synthetic.SEVERITY_LADDER)


def exam(shift: float, seed: int = 0, count: int = 200) -> ExamScores:
    """Defects a shift above the goods, in units of their spread."""
    noise = np.random.default_rng(seed).standard_normal((3, count))
    return ExamScores(noise[0], {"a": noise[1] + shift, "b": noise[2] + shift})


GROUPS = [str(i // 2) for i in range(200)]


def test_standard_error_is_small_between_equal_models_and_infinite_for_one_group() -> None:
    assert standard_error(exam(1.0), exam(1.0), GROUPS) == 0
    assert 0 < standard_error(exam(1.0), exam(1.5), GROUPS) < 0.3
    assert standard_error(exam(1.0), exam(1.5), ["one"] * 200) == np.inf


def test_early_stop_waits_for_clearly_worse_epochs() -> None:
    stop = EarlyStop(2, GROUPS)
    assert [stop.update(exam(shift)) for shift in (1.0, 2.0, 1.0, 1.2)] == [False, False, False, True]
    assert stop.best_epoch == 1 and stop.epochs() == 2


def test_noise_neither_stops_nor_shortens() -> None:
    stop = EarlyStop(2, GROUPS)
    assert not any(stop.update(exam(2.0, seed)) for seed in (0, 0, 0, 0))
    assert stop.epochs() == 4


@pytest.mark.parametrize("epochs", [0, 1, 3])
def test_an_early_stop_goes_on_from_its_state(epochs: int) -> None:
    exams = [exam(shift, seed, count=40) for seed, shift in enumerate([1.5, 3.0, 0.2, 0.1])]
    whole, first, second = (EarlyStop(2, GROUPS[:40]) for _ in range(3))
    stopped = [whole.update(each) for each in exams]
    for each in exams[:epochs]:
        first.update(each)
    second.load_state_dict(first.state_dict())
    assert [second.update(each) for each in exams[epochs:]] == stopped[epochs:] and any(stopped)
    assert second.history == whole.history and second.epochs() == whole.epochs() == 2
