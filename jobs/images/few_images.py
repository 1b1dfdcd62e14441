"""Lines about what few images can and cannot give, beside the results that they leave out."""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple

from models.calibration.promises import SHOWN_RATES, per_cent
from models.metrics.few import BY_CHANCE, perfect_by_chance
from models.verdicts.map_threshold import pieces_needed as pieces_for_regions
from models.verdicts.rates import pieces_needed, rate_of, smallest_rate
from pipeline.verdicts.rule import Rule

USUAL_RATE = rate_of(Rule().rate)
FEW_TO_FIT = 64


class Curve(NamedTuple):
    """Image AUROC of new pieces with 32 good images and with all 753, in percent; a test compares it with docs/accuracy.md."""

    detector: str
    at_32: float
    with_all: float


CURVES = (Curve("csflow", 79.7, 87.1), Curve("padim", 81.5, 83.2))
# On fold 0 of the magnetic tiles, seed 0.


def of_fit(images: int, detector: str) -> list[str]:
    """What to expect of so few images to fit; no line for more.

    >>> of_fit(64, "padim")
    []
    """
    if images >= FEW_TO_FIT:
        return []
    curve = next((each for each in CURVES if each.detector == detector), None)
    best = max(CURVES, key=lambda each: each.at_32)
    lost = "docs/accuracy.md says what so few cost other detectors"
    if curve is not None:
        lost = (
            f"on the magnetic tiles {detector} has an image AUROC of {curve.at_32} with 32 and of {curve.with_all} with 753 "
            "(docs/accuracy.md)"
        )
        if curve is not best:
            lost += f"; {best.detector} has {best.at_32} with 32"
    return [f"few images: {images} to fit; {lost}. Images of more pieces help most"]


def of_training(calibration: int, selection: int, region_share: float, told: bool, key: str | None = None) -> list[str]:
    """What the pieces that were kept for calibration can promise, and what those kept from the fit are too few for.

    told: whether figures of defects drawn on the selection images are kept.  key: what names a piece; None: each image is one.

    >>> print(of_training(calibration=24, selection=19, region_share=0.05, told=True)[0][24:])
    can promise no rate of false calls below 4 % on average, 11.7 % at 95 % confidence (1 % takes 99 and 299 pieces)
    """
    lines: list[str] = []
    parts: list[str] = []
    by = f" by {key}" if key else ""
    if calibration:
        few = calibration < pieces_needed(USUAL_RATE).on_average
        (parts if few else lines).append(f"{calibration}{by} {_promise(calibration)}")
    if 0 < selection < pieces_for_regions(region_share):
        parts.append(
            f"{selection}{by} for selection set no threshold of the map and mark no regions "
            f"({pieces_for_regions(region_share)} do)"
        )
    if selection and not told:
        parts.append("those for selection do not show how well defects are told, so no such figure is kept")
    return lines + ([f"few images: {'; '.join(parts)}"] if parts else [])


def _promise(pieces: int) -> str:
    """The best that so many can promise, and what the next better rate takes."""
    best = smallest_rate(pieces)
    better = next((rate for rate in SHOWN_RATES if rate <= USUAL_RATE and rate < best.on_average), None)
    takes = ""
    if better is not None:
        needed = pieces_needed(better)
        takes = f" ({per_cent(better)} takes {needed.on_average:,} and {needed.at_95:,} pieces)"
    return (
        f"kept for calibration can promise no rate of false calls below {per_cent(best.on_average)} on average, "
        f"{per_cent(best.at_95)} at 95 % confidence{takes}"
    )


def of_calibration(pieces: int, rates: Sequence[Fraction]) -> list[str]:
    """A line if no asked rate can be promised, or if the rate of a first `score` cannot, whose verdicts then flag nothing.

    >>> of_calibration(19, [Fraction(1, 10)])
    []
    """
    parts = []
    if not any(pieces >= pieces_needed(rate).on_average for rate in rates):
        most = max(rates)
        asked = ", ".join(map(per_cent, rates))
        parts.append(f"they promise none of the rates {asked} ({per_cent(most)} takes {pieces_needed(most).on_average} pieces)")
    if pieces < pieces_needed(USUAL_RATE).on_average:
        usual = per_cent(USUAL_RATE)
        parts.append(
            f"score flags no piece and holds no lot at {usual}, its rate unless --rate says otherwise "
            f"({usual} takes {pieces_needed(USUAL_RATE).on_average} pieces)"
        )
    return [f"few images: {pieces} good pieces: {'; '.join(parts)}"] if parts else []


def of_evaluation(good: int, bad: Mapping[str, int], unit: str) -> list[str]:
    """A line about the defect types whose ranking against the good pieces says nothing.

    Args:
        bad: pieces of each such type.
        unit: what a piece is here, plural.

    >>> of_evaluation(2, {}, "images")
    []
    """
    if not bad:
        return []
    kinds = ", ".join(f"{name} ({count} {unit} against {good} good)" for name, count in bad.items())
    worst = max(perfect_by_chance(good, count) for count in bad.values())
    return [
        f"few images: no AUROC, AP and F1-max of {kinds}: a model without skill ranks them perfectly once in "
        f"{float(1 / worst):.0f} times, and figures are given from once in {float(1 / BY_CHANCE):.0f} on"
    ]
