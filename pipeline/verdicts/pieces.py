"""From images to pieces with their ranks and verdicts. An image that cannot be compared counts as missing in its piece."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from models.calibration.calibration import Calibration, Group
from models.verdicts.pieces import Images, piece_scores, verdicts
from pipeline.verdicts.judge import Judge
from pipeline.verdicts.names import NOT_JUDGED
from pipeline.verdicts.shown import Shown

SEVERAL = "its images have several calibration groups"

PIECES = pa.schema(
    [
        pa.field("key", pa.string()),  # place and piece as one text
        pa.field("group", pa.int32()),
        pa.field("number", pa.int32()),
        pa.field("rank", pa.int64()),
        pa.field("n", pa.int64()),
        pa.field("verdict", pa.string()),
        pa.field("reason", pa.string()),
    ]
)
"""Pieces that are handed from one process to another, as `Judged` has them."""


class Judged(NamedTuple):
    """Pieces, each column (P,).

    group, number: what it was compared with: position of the calibration's group, row of its sets.
    score: the largest z of its images, nan if none can be compared.
    rank: 1 + pieces of the calibration that score at least as high, of n; 0 if it has none.  tied: those that score the same.
    above: whether its score is above the threshold that counts for lots.
    counts: complete and judged, so that it counts for its lot.
    verdict: ok, flagged or not_judged.  reason: in words, "" where it counts.
    """

    group: NDArray[np.int64]
    number: NDArray[np.int64]
    score: NDArray[np.float32]
    rank: NDArray[np.int64]
    tied: NDArray[np.int64]
    n: NDArray[np.int64]
    above: NDArray[np.bool_]
    counts: NDArray[np.bool_]
    verdict: NDArray[Any]
    reason: NDArray[Any]


def keys_of(images: Shown) -> pa.Array:
    """Place and piece as one text, (N,): the same for images of one piece."""
    return pc.binary_join_element_wise(images.place, images.piece, "\n")


def codes(images: Shown, judge: Judge) -> NDArray[np.int64]:
    """The piece of each image as a number from 0, (N,). An image whose piece is not known is one of its own."""
    if not judge.by_piece:
        return np.arange(len(images.score))
    found = keys_of(images).dictionary_encode().indices.to_numpy().astype(np.int64)
    alone = np.asarray(pc.equal(images.piece, ""))
    found[alone] = len(found) + np.flatnonzero(alone)
    return np.unique(found, return_inverse=True)[1]


def judge_pieces(images: Shown, code: NDArray[np.int64], judge: Judge) -> Judged:
    """The verdict on every piece at the rate, by number.

    Args:
        code: as `codes` returns it; all images of a piece must be there.
    """
    count = int(code.max(initial=-1)) + 1
    group, number, rank, tied, n = (np.zeros(count, np.int64) for _ in range(5))
    above, counts = np.zeros(count, np.bool_), np.zeros(count, np.bool_)
    said = np.full(count, NOT_JUDGED, object), np.full(count, "", object)
    score = np.full(count, np.nan, np.float32)
    found = Judged(group, number, score, rank, tied, n, above, counts, *said)
    first = np.full(count, -1)
    order = np.argsort(images.order, kind="stable")
    backwards = order[::-1]
    first[code[backwards]] = backwards  # of several images the one that is assigned last
    found.group[:] = images.group[first]
    bad = backwards[(images.fault != "")[backwards]]
    found.reason[code[bad]] = images.fault[bad]
    found.reason[code[images.group != found.group[code]]] = SEVERAL
    if judge.calibration is not None:
        for at in np.unique(found.group[found.group >= 0]).tolist():
            mine = order[((found.group[code] == at) & (images.group == at))[order]]
            _judge_group(images, code, mine, judge, judge.calibration, at, found)
    found.counts[:] = found.reason == ""
    return found


def _judge_group(
    images: Shown,
    code: NDArray[np.int64],
    mine: NDArray[np.int64],
    judge: Judge,
    calibration: Calibration,
    at: int,
    found: Judged,
) -> None:
    """Judge the pieces of these images, whose numbers are in the order in which they were taken."""
    group: Group = calibration.groups[at]
    views = images.view[mine].astype(np.str_)
    taken = Images(code[mine], views, images.score[mine], images.fault[mine] == "")
    scored = piece_scores(taken, calibration.selection.scales, group.sets)
    said = verdicts(scored, group.calibrations(), judge.rate, "views" if calibration.keys.view else "images")
    pieces = np.asarray(scored.piece, np.int64)
    flagged = np.array([verdict == "flagged" for verdict in said.verdict], np.bool_)
    clear = found.reason[pieces] == ""
    reason = np.array(said.reason, object)
    found.reason[pieces] = np.where(flagged & ~clear & (reason != ""), reason, np.where(clear, reason, found.reason[pieces]))
    found.verdict[pieces] = np.where(flagged | clear, np.array(said.verdict, object), NOT_JUDGED)
    found.number[pieces], found.rank[pieces] = scored.number, said.rank
    found.score[pieces] = np.where(said.ranked, scored.score, np.nan)
    found.n[pieces] = np.where(scored.belongs, said.n, 0)
    for row, calibrated in enumerate(group.calibrations()):
        ranked = said.ranked & (scored.number == row)
        above_or_equal = np.searchsorted(calibrated, scored.score[ranked], side="left")
        found.tied[pieces[ranked]] = np.searchsorted(calibrated, scored.score[ranked], side="right") - above_or_equal
        kind = judge.kinds.get((at, row))
        if kind is not None and kind.threshold is not None:
            found.above[pieces[ranked]] = scored.score[ranked] > kind.threshold


def first_images(code: NDArray[np.int64]) -> pa.Array:
    """The position of each piece's first image, (P,), for what all of its images have in common."""
    first = np.full(int(code.max(initial=-1)) + 1, -1)
    first[code[::-1]] = np.arange(len(code))[::-1]  # of several images the one that is assigned last
    return pa.array(first)


def nights_of(images: Shown, code: NDArray[np.int64]) -> pa.DictionaryArray:
    """The night of each piece, (P,)."""
    return images.night.take(first_images(code))


def flag_by_night(judged: Judged, nights: pa.DictionaryArray, thresholds: Mapping[str, float]) -> None:
    """Let the threshold of its night decide which pieces are flagged, instead of the rate; nights without one stay."""
    of_night = np.asarray(nights.indices)
    for at, night in enumerate(nights.dictionary.to_pylist()):
        if night in thresholds:
            ranked = (of_night == at) & (judged.rank > 0)
            above = judged.score > thresholds[night]
            judged.verdict[ranked] = np.where(above, "flagged", np.where(judged.counts, "ok", NOT_JUDGED))[ranked]


def as_table(images: Shown, code: NDArray[np.int64], judged: Judged) -> pa.Table:
    """The pieces as rows of PIECES, in the order of their numbers."""
    columns = (judged.group, judged.number, judged.rank, judged.n, judged.verdict, judged.reason)
    return pa.table([keys_of(images).take(first_images(code)), *columns], schema=PIECES)
