"""`evaluate --stress`: how a model stands other light, less focus and other places; images are altered and scored again."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from jobs.command.aligned import aligned
from jobs.images.few_images import USUAL_RATE
from jobs.images.kept import Seen
from jobs.images.labelled_at_rates import LabelledScore, why_none
from models.alterations.picture import within
from models.alterations.stress import STRESS, altered
from models.calibration.calibration import Calibration, Mode
from models.calibration.promises import per_cent
from models.maps.content_box import content_box
from models.metrics.bootstrap import Interval, interval
from models.metrics.ranking import auroc
from models.verdicts.image_p import image_ranks, images_flagged
from models.verdicts.rates import allowed_rank
from pipeline.decode.config import DecodeConfig
from pipeline.decode.unit import decode_unit
from pipeline.scoring.scorer import Scorer
from pipeline.state.scoring_config import SCORING_VERSION

AT_ONCE = 32  # images that are altered together, rounded up to whole batches
DIGITS = 16  # of a content hash, which draws an image's directions
UNALTERED = "unaltered"
COLUMNS = ("altered", "image AUROC", "difference", "false calls")


class Row(NamedTuple):
    """One alteration. difference: AUROC less that of the unaltered images.  false_calls: share of the good images."""

    name: str
    image_auroc: Interval
    difference: Interval
    false_calls: Interval


class Threshold(NamedTuple):
    """Which scores are calls. calls: scores (N,) to (N,) bool.  good: of all images, those whose calls are counted, (N,) bool.
    by: calibration, or unaltered.  words: a sentence on where it comes from."""

    calls: Callable[[NDArray[np.float32]], NDArray[np.bool_]]
    good: NDArray[np.bool_]
    by: str
    words: str


class Stress:
    """Scores images altered in every way, part by part as they are read."""

    def __init__(self, scorer: Scorer, decode: DecodeConfig, seed: int) -> None:
        self._scorer, self._decode, self._seed = scorer, decode, seed
        self._at_once = -(-AT_ONCE // scorer.batch_size) * scorer.batch_size
        self._scores: list[list[NDArray[np.float32]]] = [[] for _ in STRESS]

    def add(self, encoded: pa.Table, scored: Mapping[int, str], told: Callable[[str, int, int], None]) -> None:
        """Rows of schemas/encoded.py. The directions of an image follow the seed and its content.

        scored: the positions of the rows to take, with their content hashes.
        told: called with what is done, how many images are done and of how many, counted once for each alteration.
        """
        unit, done = decode_unit(encoded, self._decode), 0
        positions = list(scored)
        sizes = list(zip(unit.table["width"].to_pylist(), unit.table["height"].to_pylist(), strict=True))
        boxes = {i: content_box(sizes[i], self._decode) for i in positions}
        for alteration, scores in zip(STRESS, self._scores, strict=True):
            for start in range(0, len(positions), self._at_once):
                told(f"altered: {alteration.name}", done, len(STRESS) * len(positions))
                chosen = positions[start : start + self._at_once]
                made = [
                    within(unit.pixels[i], boxes[i], partial(altered, alteration=alteration, rng=self._rng(scored[i])))
                    for i in chosen
                ]
                scores.append(self._scorer(np.stack(made)).score)
                done += len(made)

    def _rng(self, content_hash: str) -> np.random.Generator:
        return np.random.default_rng((self._seed, int(content_hash[:DIGITS], 16)))

    def scores(self) -> NDArray[np.float32]:
        """Of all images that were added, in their order, (len(STRESS), N)."""
        return np.stack([np.concatenate(scores) for scores in self._scores])

    def report(
        self,
        unaltered: Sequence[LabelledScore],
        calibration: Calibration | None,
        seen: Seen,
        with_groups: bool,
        few: bool,
        draws: int,
    ) -> dict[str, Any]:
        """For the file of --json; a figure that does not exist is null.

        Args:
            unaltered: every image that was added, in their order, with its score as it is.
            seen: what the model was fitted and selected on.
            few: too few pieces to rank: no AUROC then.
        """
        scores = self.scores()
        assert scores.shape[1] == len(unaltered)
        whole = np.flatnonzero(np.isfinite(scores).all(0))
        kept = [unaltered[i] for i in whole.tolist()]
        mode = Mode(self._scorer.label, self._scorer.batch_size, SCORING_VERSION)
        calls = threshold(calibration, kept, mode, seen, with_groups)
        found = rows(kept, scores[:, whole], calls, draws, self._seed)

        def figure(one: Interval, given: bool = True) -> dict[str, float | None]:
            return {part: value if given and math.isfinite(value) else None for part, value in one._asdict().items()}

        return {
            "rate": float(USUAL_RATE),
            "threshold_by": calls.by,
            "false_calls_of": int(calls.good.sum()),
            "left_out": len(unaltered) - len(kept),
            "in_words": calls.words,
            "rows": [
                {
                    "altered": row.name,
                    "image_auroc": figure(row.image_auroc, not few),
                    "difference": figure(row.difference, not few),
                    "false_calls": figure(row.false_calls),
                }
                for row in found
            ],
        }


def threshold(
    calibration: Calibration | None, scores: Sequence[LabelledScore], mode: Mode, seen: Seen, with_groups: bool
) -> Threshold:
    """At 5 %, the rate of `score` by default: the calibration's where it holds for these images, else the score that 5 % of the
    unaltered good ones exceed.

    scores: of the unaltered images.
    """
    good = np.array([not one.bad for one in scores], np.bool_)
    if calibration is None:
        return _of_the_unaltered(scores, good, "the model has no calibration")
    why = why_none(calibration, mode, with_groups)
    if why is not None:
        return _of_the_unaltered(scores, good, why)
    group, view = calibration.groups[0], calibration.selection.scales.views[0]
    known = calibration.images_of(group, view)
    if not allowed_rank(USUAL_RATE, known.pieces):
        return _of_the_unaltered(scores, good, f"the calibration cannot promise {per_cent(USUAL_RATE)}")
    familiar = seen.fit | seen.selection | set(calibration.hashes)
    fresh = good & np.array([one.content_hash not in familiar for one in scores], np.bool_)
    if not fresh.any():
        return _of_the_unaltered(scores, good, "the model was trained or calibrated on all good images that are here")
    return Threshold(
        lambda found: images_flagged(image_ranks(found, known), USUAL_RATE, known),
        fresh,
        "calibration",
        f"False calls: share of the {int(fresh.sum())} good images above the calibrated threshold at {per_cent(USUAL_RATE)}",
    )


def _of_the_unaltered(scores: Sequence[LabelledScore], good: NDArray[np.bool_], why: str) -> Threshold:
    ordered = np.sort(np.array([one.score for one in scores], np.float32)[good])[::-1]
    limit = ordered[math.floor(USUAL_RATE * len(ordered))]
    return Threshold(
        lambda found: found > limit,
        good,
        UNALTERED,
        f"False calls: share of the {len(ordered)} good images above the score that {per_cent(USUAL_RATE)} of them, unaltered, "
        f"exceed; not a promise for new pieces, since {why}",
    )


def rows(
    unaltered: Sequence[LabelledScore], altered_scores: NDArray[np.float32], calls: Threshold, draws: int, seed: int
) -> list[Row]:
    """The unaltered images, then every alteration, with intervals by bootstrap over groups; differences are paired.

    altered_scores: of the same images, (len(STRESS), N), finite.
    """
    every = np.concatenate([np.array([[one.score for one in unaltered]], np.float32), altered_scores])
    bad = np.array([one.bad for one in unaltered], np.bool_)
    called = np.stack([calls.calls(found) for found in every])

    def figures(drawn: NDArray[np.int64]) -> NDArray[np.float64]:
        of = np.array([auroc(found[drawn], bad[drawn]) for found in every])
        good = drawn[calls.good[drawn]]
        share = called[:, good].mean(1) if len(good) else np.full(len(every), np.nan)
        return np.stack([of, of - of[0], share], 1).ravel()  # (alterations * 3,)

    found = interval(figures, [one.group for one in unaltered], draws, seed)
    names = [UNALTERED, *(alteration.name for alteration in STRESS)]
    parts = [[Interval(*(float(part[3 * i + k]) for part in found)) for k in range(3)] for i in range(len(names))]
    return [Row(name, *part) for name, part in zip(names, parts, strict=True)]


def lines_of(report: Mapping[str, Any]) -> list[str]:
    """The table, in percent and points, and where the false calls come from."""

    def cell(figure: Mapping[str, float | None], sign: str = "") -> str:
        value, low, high = (figure[part] for part in ("value", "low", "high"))
        if value is None:
            return "-"
        shown = f"{100 * value:{sign}.1f}"
        return shown if low is None or high is None else f"{shown} ({100 * low:{sign}.1f} to {100 * high:{sign}.1f})"

    lines = [list(COLUMNS)]
    for row in report["rows"]:
        difference = "" if row["altered"] == UNALTERED else cell(row["difference"], "+")
        lines.append([row["altered"], cell(row["image_auroc"]), difference, cell(row["false_calls"])])
    left = report["left_out"]
    more = [f"left out, since a score of an altered image is not finite: {left} images"] if left else []
    return [*aligned(lines), "", f"{report['in_words']}. Differences are to the unaltered images, paired.", *more]
