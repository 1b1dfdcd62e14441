"""Which of several detectors is taken, and what is said of the others."""

import numpy as np
import pytest

from models.fitting.choice import Choice, choose, together
from models.fitting.selection import ExamScores

COUNT = 60
GROUPS = [f"tile {i // 2}" for i in range(COUNT)]
COSTS = {"good": 1.0, "poor": 0.1}


def exam(shift: float, seed: int, noise: float = 1.0) -> ExamScores:
    """Defects that lie `shift` standard deviations above the good images."""
    rng = np.random.default_rng(seed)
    good = rng.standard_normal(COUNT) * noise
    return ExamScores(good, {name: rng.standard_normal(COUNT) * noise + shift * noise for name in ("spot", "scar")})


def chosen(scores: dict[str, ExamScores], costs: dict[str, float] | None = None) -> Choice:
    return choose(scores, costs or COSTS, GROUPS)


def test_a_clearly_better_detector_is_taken_though_it_costs_more() -> None:
    found = chosen({"good": exam(3.0, 0), "poor": exam(0.3, 1)})
    assert found.chosen.members == ("good",) and found.candidates[0].behind == 0
    assert [each.members for each in found.candidates][-1] == ("poor",)
    assert found.candidates[-1].behind > found.candidates[-1].standard_error


def test_of_equals_the_cheapest_is_taken() -> None:
    found = chosen({"good": exam(1.5, 0), "poor": exam(1.5, 0)})
    assert {each.criterion.value for each in found.candidates} == {found.chosen.criterion.value}
    assert found.chosen.members == ("poor",) and found.candidates[0].members == ("poor",)


def test_two_that_err_independently_are_taken_together() -> None:
    found = chosen({"good": exam(1.2, 0), "poor": exam(1.2, 1)}, {"good": 1.0, "poor": 1.0})
    assert found.candidates[0].members == ("good", "poor") and found.candidates[0].cost == 2.0
    assert found.chosen.members == ("good", "poor")


def test_several_that_are_ahead_by_little_are_not_taken() -> None:
    """Both see the same, each with a little noise of its own."""
    same, rng = exam(1.5, 0), np.random.default_rng(1)

    def noisy(scores: np.ndarray) -> np.ndarray:
        return scores + 0.3 * rng.standard_normal(COUNT)

    both = [ExamScores(noisy(same.good), {name: noisy(scores) for name, scores in same.defects.items()}) for _ in range(2)]
    found = chosen(dict(zip(COSTS, both, strict=True)), {"good": 1.0, "poor": 1.0})
    assert found.candidates[0].members == ("good", "poor") and len(found.chosen.members) == 1


def test_a_scale_is_no_advantage() -> None:
    narrow, wide = exam(2.0, 0, noise=0.01), exam(2.0, 1, noise=100.0)
    both, alone = together([narrow, wide]).criterion().value, narrow.criterion().value
    assert both > alone
    assert together([wide, narrow]).criterion().value == pytest.approx(both)


def test_scores_that_never_differ_are_no_division_by_zero() -> None:
    flat = ExamScores(np.ones(COUNT), {"spot": np.ones(COUNT), "scar": np.ones(COUNT)})
    found = chosen({"good": exam(2.0, 0), "poor": flat})
    assert all(np.isfinite(each.criterion.value) for each in found.candidates)
    assert found.chosen.members == ("good",)


def test_the_table_has_a_line_for_each_and_marks_one() -> None:
    found = chosen({"good": exam(3.0, 0), "poor": exam(0.3, 1)})
    heading, *lines = found.table()
    assert "criterion" in heading and len(lines) == 3
    assert [line for line in lines if line.endswith("<- taken")] == [next(line for line in lines if line.startswith("good "))]
    best, worst = found.candidates[0], found.candidates[-1]
    assert f"{best.criterion.value:.2f}                -" in lines[0] and lines[0].startswith(best.name)
    assert f"{worst.behind:.2f} +- {worst.standard_error:.2f}" in lines[-1]
