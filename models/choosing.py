"""What each detector is for, with the figures of docs/accuracy.md, to choose one by; no detector is imported."""

import ast
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from models import detectors, registry


class Choice(NamedTuple):
    """A detector on the magnetic tiles of docs/accuracy.md; a test compares these with that page.

    image_auroc, aupro: per cent, on tiles that the fit has not seen; of DifferNet without the head that it has by default.
    images_per_s: scored by one thread, with default settings (docs/benchmarks/throughput/README.md, by the same test).
    """

    detector: str
    suits: str
    image_auroc: float
    aupro: float
    images_per_s: int


CHOICES = (
    Choice("csflow", "which pieces are bad, and where, at several sizes of defect (the default)", 88.5, 75.9, 25),
    Choice("differnet", "which pieces are bad, also where parts lie turned; slow; figures without its head", 83.9, 51.7, 5),
    Choice("cflow", "both which pieces are bad and where", 83.9, 62.8, 34),
    Choice("padim", "where a piece is bad, if parts always lie in the same place; quickest to train", 82.9, 73.6, 36),
    Choice("fastflow", "most images a second", 85.2, 75.5, 41),
    Choice("patchsvdd", "surfaces that no pretrained backbone suits; it trains its own encoder", 67.2, 56.3, 12),
)


def costs(names: Sequence[str]) -> dict[str, float]:
    """Seconds of one thread that each detector takes for an image; one that was not measured counts as the slowest.

    >>> costs(["padim", "toy"]) == {"padim": 1 / 36, "toy": 1 / 5}
    True
    """
    speeds = {each.detector: each.images_per_s for each in CHOICES}
    return {name: 1 / speeds.get(name, min(speeds.values())) for name in names}


def table() -> str:
    """A line for each detector, the best image AUROC first, below a heading.

    >>> print(table().splitlines()[1])
    csflow     88.5   75.9   25/s  which pieces are bad, and where, at several sizes of defect (the default)
    """
    width = max(map(len, registry.names()))
    lines = ["Detectors: image AUROC and AUPRO in %, images/s of one thread (docs/accuracy.md, docs/benchmarks/throughput)"]
    lines += [
        f"{one.detector:<{width}}  {one.image_auroc:.1f}   {one.aupro:.1f}  {one.images_per_s:>3}/s  {one.suits}"
        for one in sorted(CHOICES, key=lambda one: -one.image_auroc)
    ]
    known = {one.detector for one in CHOICES}
    lines += [f"{name:<{width}}  not measured  {_says(name)}" for name in registry.names() if name not in known]
    return "\n".join(lines)


def _says(detector: str) -> str:
    """The first line of the docstring of a detector's file."""
    path = Path(next(iter(detectors.__path__))) / f"{detector}.py"
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]
