"""Chooses among detectors that were fitted to the same images, alone and together, by synthetic defects and without labels.

Every candidate sees the same defects. The single detector with the best criterion is taken; several together only where they
are better than it with 95 % confidence (paired, by bootstrap over groups): of many combinations one is ahead by chance, and
each more detector is one more to train, to score with and to explain. Costs are told, and decide between equals alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from models.fitting.selection import Criterion, ExamScores, standard_error

LEAST_STD = 1e-6
CONFIDENT = 1.96  # standard errors: 95 %


Subset = tuple[str, ...]  # names of detectors


@dataclass(frozen=True)
class Candidate:
    """members: detectors, one or several together.  cost: seconds of one thread that an image takes.  behind: criteria that
    it is behind the best, with the standard error of that difference; 0 and 0 for the best."""

    members: Subset
    criterion: Criterion
    cost: float
    behind: float
    standard_error: float

    @property
    def name(self) -> str:
        return " + ".join(self.members)


@dataclass(frozen=True)
class Choice:
    """candidates: the best criterion first.  chosen: one of them."""

    candidates: tuple[Candidate, ...]
    chosen: Candidate

    def table(self) -> list[str]:
        """A line for each candidate, below a heading."""
        width = max(len(each.name) for each in self.candidates)
        lines = [f"{'candidate':<{width}}  criterion  behind the best  images/s"]
        for each in self.candidates:
            behind = f"{each.behind:.2f} +- {each.standard_error:.2f}" if each.behind else "-"
            mark = "  <- taken" if each is self.chosen else ""
            lines.append(f"{each.name:<{width}}  {each.criterion.value:>9.2f}  {behind:>15}  {1 / each.cost:>8.0f}{mark}")
        return lines


def together(members: Sequence[ExamScores]) -> ExamScores:
    """The mean of the members' scores, each in standard deviations from the mean of the good images.

    >>> scores = ExamScores(np.array([1.0, 3.0]), {"spot": np.array([4.0])})
    >>> together([scores, scores]).defects["spot"]
    array([2.])
    """
    scales = [(one.good.mean(dtype=np.float64), max(one.good.std(dtype=np.float64), LEAST_STD)) for one in members]

    def fused(parts: Sequence[NDArray[np.floating]]) -> NDArray[np.float64]:
        scaled = [(part - mean) / std for part, (mean, std) in zip(parts, scales, strict=True)]
        found: NDArray[np.float64] = np.mean(scaled, axis=0)
        return found

    families = members[0].defects
    return ExamScores(
        fused([one.good for one in members]), {name: fused([one.defects[name] for one in members]) for name in families}
    )


def choose(scores: Mapping[str, ExamScores], costs: Mapping[str, float], groups: Sequence[str]) -> Choice:
    """Of all detectors and all their combinations.

    Args:
        scores: of every detector on the same images, as logarithms where they are positive.
        costs: seconds of one thread that each takes for an image.
        groups: of the good images, (N,).

    >>> good = np.array([1.0, 2.0, 3.0, 4.0])
    >>> scores = {"one": ExamScores(good, {"spot": good + 9}), "other": ExamScores(good, {"spot": good + 1})}
    >>> choose(scores, {"one": 1.0, "other": 0.1}, groups=list("abcd")).chosen.members
    ('one',)
    """
    names = list(scores)
    subsets = [subset for count in range(1, len(names) + 1) for subset in combinations(names, count)]
    exams = {subset: together([scores[name] for name in subset]) for subset in subsets}
    criteria = {subset: exam.criterion() for subset, exam in exams.items()}
    cost = {subset: sum(costs[name] for name in subset) for subset in subsets}

    def best(of: Sequence[Subset]) -> Subset:
        return max(of, key=lambda subset: (criteria[subset].value, -cost[subset]))

    def behind(one: Subset, other: Subset) -> tuple[float, float]:
        """By how much the other's criterion is less, and the standard error."""
        if one == other:
            return 0.0, 0.0
        return criteria[one].value - criteria[other].value, standard_error(exams[one], exams[other], groups)

    chosen, several = best(subsets[: len(names)]), subsets[len(names) :]
    if several:
        ahead, error = behind(best(several), chosen)
        if ahead > CONFIDENT * error:
            chosen = best(several)
    first = best(subsets)
    found = [Candidate(subset, criteria[subset], cost[subset], *behind(first, subset)) for subset in subsets]
    found.sort(key=lambda each: (each.behind, each.cost))
    return Choice(tuple(found), next(each for each in found if each.members == chosen))
