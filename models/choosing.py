"""What each detector is for, with the figures of docs/accuracy.md, to choose one by; no detector is imported."""

import ast
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from models import detectors, registry


class Choice(NamedTuple):
    """A detector on the magnetic tiles of docs/accuracy.md; a test compares these with that page.

    image_auroc, aupro: per cent, on tiles that the fit has not seen; of DifferNet without the head that it has by default.
    training_min: minutes to train, without a selection, and of flows without their heads.  images_per_s: scored.  Both times
    are of one thread.
    """

    detector: str
    suits: str
    image_auroc: float
    aupro: float
    training_min: float
    images_per_s: int


CHOICES = (
    Choice("csflow", "which pieces are bad, and where, at several sizes of defect (the default)", 88.5, 75.9, 5.7, 22),
    Choice("differnet", "which pieces are bad, also where parts lie turned; slow", 83.9, 51.7, 7.3, 5),
    Choice("cflow", "both which pieces are bad and where", 83.9, 62.8, 5.4, 31),
    Choice("padim", "where a piece is bad, if parts always lie in the same place; quickest to train", 82.9, 73.6, 1.2, 24),
    Choice("fastflow", "most images a second", 85.2, 75.5, 5.0, 32),
    Choice("patchsvdd", "surfaces that no pretrained backbone suits; it trains its own encoder", 67.2, 56.3, 15.6, 9),
)


def costs(names: Sequence[str]) -> dict[str, float]:
    """Seconds of one thread that each detector takes for an image; one that was not measured counts as the slowest.

    >>> costs(["padim", "toy"]) == {"padim": 1 / 24, "toy": 1 / 5}
    True
    """
    speeds = {each.detector: each.images_per_s for each in CHOICES}
    return {name: 1 / speeds.get(name, min(speeds.values())) for name in names}


def table() -> str:
    """A line for each detector, the best image AUROC first, below a heading.

    >>> print(table().splitlines()[1])
    csflow     88.5   75.9   5.7 min   22/s  which pieces are bad, and where, at several sizes of defect (the default)
    """
    width = max(map(len, registry.names()))
    lines = ["Detectors: image AUROC and AUPRO in %, training and images/s of one thread (docs/accuracy.md)"]
    lines += [
        f"{one.detector:<{width}}  {one.image_auroc:.1f}   {one.aupro:.1f}  {one.training_min:>4.1f} min  "
        f"{one.images_per_s:>3}/s  {one.suits}"
        for one in sorted(CHOICES, key=lambda one: -one.image_auroc)
    ]
    known = {one.detector for one in CHOICES}
    lines += [f"{name:<{width}}  not measured  {_says(name)}" for name in registry.names() if name not in known]
    return "\n".join(lines)


def _says(detector: str) -> str:
    """The first line of the docstring of a detector's file."""
    path = Path(next(iter(detectors.__path__))) / f"{detector}.py"
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]
