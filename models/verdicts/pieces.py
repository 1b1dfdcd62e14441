"""From images to pieces: each image on the scale of its view, a piece by its largest, and a verdict for complete pieces only.

Pieces are exchangeable, images of one piece are not. What a complete piece consists of is a row of `sets`, the number of images
of each view. With one row a missing image is known to be missing. With several rows (image counts vary) each has a calibration
of its own, a piece belongs to the row that it equals, and a missing image cannot be told from a smaller piece.
"""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.verdicts.ranks import piece_p, ranks, sorted_calibration
from models.verdicts.rates import allowed_rank, pieces_needed
from models.verdicts.view_scales import ViewScales, on_scale

Verdict = Literal["ok", "flagged", "not_judged"]


class Images(NamedTuple):
    """Images in the order in which they were taken, each column (N,).

    piece: names, or numbers.  view: "" if the product has one view.  score: raw; any value where not readable.
    readable: whether it has a score.
    """

    piece: NDArray[Any]
    view: NDArray[np.str_]
    score: NDArray[np.float32]
    readable: NDArray[np.bool_]


class PieceSets(NamedTuple):
    """sets: images of each view that pieces have, (K, V), the most frequent first.  pieces: that have them, (K,)."""

    sets: NDArray[np.int64]
    pieces: NDArray[np.int64]


class PieceScores(NamedTuple):
    """One row a piece, by name, each column (P,).

    score: the largest z of its first complete set, float32; nan if counted is 0.
    number: the row of `sets` that it belongs to; 0 and without meaning if not belongs.
    belongs: whether there is such a row.
    counted, expected: images that have a score and count, and images of a complete piece.
    surplus: readable images beyond the complete set, and images of views that the scales do not have.
    """

    piece: NDArray[Any]
    score: NDArray[np.float32]
    number: NDArray[np.int64]
    belongs: NDArray[np.bool_]
    counted: NDArray[np.int64]
    expected: NDArray[np.int64]
    surplus: NDArray[np.int64]

    def complete(self) -> NDArray[np.bool_]:
        """Whether its first complete set is there, (P,)."""
        return self.belongs & (self.counted == self.expected)


class PieceVerdicts(NamedTuple):
    """One row a piece, in the order of its scores, each column (P,).

    rank: among the n calibration pieces; 0 and without meaning if not ranked.  p: rank / (n + 1), nan if not ranked.
    reason: in words, "" for a complete piece that was judged.
    """

    ranked: NDArray[np.bool_]
    rank: NDArray[np.int64]
    n: NDArray[np.int64]
    p: NDArray[np.float64]
    verdict: list[Verdict]
    reason: list[str]


def piece_sets(images: Images, scales: ViewScales) -> PieceSets:
    """What pieces consist of, readable or not. Take `sets[:1]` where pieces are alike, more rows where counts vary.

    >>> from models.verdicts.view_scales import fit_scales
    >>> images = Images(np.array(list("aabbc")), np.full(5, ""), np.arange(5, dtype=np.float32), np.ones(5, bool))
    >>> piece_sets(images, fit_scales([0, 1, 2], ["", "", ""]))
    PieceSets(sets=array([[2],
           [1]]), pieces=array([2, 1]))
    """
    names, code = np.unique(images.piece, return_inverse=True)
    place, known = _places(images.view, scales)
    sets, pieces = np.unique(_present(code, place, known, len(names), scales), axis=0, return_counts=True)
    order = np.argsort(-pieces, kind="stable")
    return PieceSets(sets[order], pieces[order])


def piece_scores(images: Images, scales: ViewScales, sets: NDArray[np.int64]) -> PieceScores:
    """The largest z of each piece's first complete set.

    The first readable images of each view count, in the order of the rows: a retake replaces what could not be read, and
    nothing else, so there is no "test until it passes".
    Args:
        sets: rows of `piece_sets`, (K, V).

    >>> from models.verdicts.view_scales import fit_scales
    >>> images = Images(np.array(list("aab")), np.full(3, ""), np.array([0, 5, 1], np.float32), np.ones(3, bool))
    >>> found = piece_scores(images, fit_scales([0, 1, 2], ["", "", ""]), sets=np.array([[2]]))
    >>> found.score, found.complete()
    (array([5., 0.], dtype=float32), array([ True, False]))
    """
    names, code = np.unique(images.piece, return_inverse=True)
    place, known = _places(images.view, scales)
    number, belongs = np.zeros(len(names), np.int64), np.full(len(names), len(sets) == 1)
    if len(sets) != 1:
        present = _present(code, place, known, len(names), scales)
        for row, one in enumerate(sets):
            same = (present == one).all(axis=1)
            number[same], belongs[same] = row, True
    wanted = np.where(belongs[:, None], sets[number], 0)  # (P, V)
    scored = np.flatnonzero(known & images.readable)
    counts = scored[_position_in_group(code[scored] * len(scales.views) + place[scored]) < wanted[code, place][scored]]
    z = on_scale(images.score[counts], images.view[counts], scales) if len(counts) else np.empty(0)
    largest = np.full(len(names), -np.inf)
    np.maximum.at(largest, code[counts], z)
    counted = np.bincount(code[counts], minlength=len(names))
    all_scored = np.bincount(code[images.readable | ~known], minlength=len(names))
    score = np.where(counted > 0, largest, np.nan).astype(np.float32)
    return PieceScores(names, score, number, belongs, counted, wanted.sum(axis=1), all_scored - counted)


def calibrations(scored: PieceScores, sets: NDArray[np.int64]) -> list[NDArray[np.float32]]:
    """The sorted scores of the complete pieces of each row of `sets`, K arrays (n_k,); n_k may be 0.

    >>> from models.verdicts.view_scales import fit_scales
    >>> images = Images(np.array(list("aab")), np.full(3, ""), np.array([0, 5, 1], np.float32), np.ones(3, bool))
    >>> calibrations(piece_scores(images, fit_scales([0, 1, 2], ["", "", ""]), np.array([[2]])), np.array([[2]]))
    [array([5.], dtype=float32)]
    """
    found = [scored.score[scored.complete() & (scored.number == row)] for row in range(len(sets))]
    return [sorted_calibration(scores) if len(scores) else scores for scores in found]


def verdicts(
    scored: PieceScores, calibrated: Sequence[NDArray[np.float32]], rate: Fraction, of: str = "images"
) -> PieceVerdicts:
    """What the calibration says of each piece at a preset rate.

    An image that is missing or unreadable can only raise p, since the largest of fewer is no larger: `flagged` stands, and
    otherwise the piece is not_judged. So are pieces with surplus images, which are ranked by their first complete set.
    Args:
        calibrated: as `calibrations` returns it for the same sets.
        of: what the images of a piece are in words: "images" or "views".
    Assumes: first complete sets of new good pieces and of calibration pieces are exchangeable, within each row of `sets`.
    Guarantees: P(a good piece is flagged) <= rate, marginally (on average over calibrations).
    Source: as `ranks.piece_p`.

    >>> from models.verdicts.view_scales import fit_scales
    >>> images = Images(np.array(list("aab")), np.full(3, ""), np.array([0, 5, 1], np.float32), np.ones(3, bool))
    >>> scored = piece_scores(images, fit_scales([0, 1, 2], ["", "", ""]), np.array([[2]]))
    >>> found = verdicts(scored, [np.arange(4, dtype=np.float32)], Fraction("0.2"))
    >>> found.verdict, found.reason[1]
    (['flagged', 'not_judged'], '1 of 2 images')
    """
    rank, ranked = np.zeros(len(scored.piece), np.int64), np.zeros(len(scored.piece), np.bool_)
    n, allowed = np.zeros(len(scored.piece), np.int64), np.zeros(len(scored.piece), np.int64)
    p = np.full(len(scored.piece), np.nan)
    for row, calibration in enumerate(calibrated):
        mine = scored.belongs & (scored.number == row)
        n[mine] = len(calibration)
        if len(calibration):
            allowed[mine] = allowed_rank(rate, len(calibration))
            mine &= scored.counted > 0
            rank[mine], ranked[mine] = ranks(scored.score[mine], calibration), True
            p[mine] = piece_p(rank[mine], len(calibration))
    flagged = ranked & (rank <= allowed)
    judged = scored.complete() & (scored.surplus == 0) & (allowed > 0)
    verdict: list[Verdict] = ["ok"] * len(rank)
    reason = [""] * len(rank)
    for row in np.flatnonzero(flagged | ~judged).tolist():
        verdict[row] = "flagged" if flagged[row] else "not_judged"
        reason[row] = "" if judged[row] else _reason(scored, row, int(n[row]), int(allowed[row]), rate, of)
    return PieceVerdicts(ranked, rank, n, p, verdict, reason)


def _reason(scored: PieceScores, row: int, n: int, allowed: int, rate: Fraction, of: str) -> str:
    if not scored.belongs[row]:
        return f"no calibration for a piece with these {scored.surplus[row]} {of}"
    if not allowed:
        return f"calibration too small: {n} pieces, and {float(rate):.4g} needs {pieces_needed(rate).on_average}"
    if scored.counted[row] < scored.expected[row]:
        return f"{scored.counted[row]} of {scored.expected[row]} {of}"
    return f"{scored.counted[row] + scored.surplus[row]} {of}, and a complete piece has {scored.expected[row]}"


def _places(views: NDArray[np.str_], scales: ViewScales) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The position of each image's view in the scales (0 if it is none), and whether it is one of them; each (N,)."""
    place = np.minimum(np.searchsorted(scales.views, views), len(scales.views) - 1)
    known = scales.views[place] == views
    return np.where(known, place, 0), known


def _present(
    code: NDArray[np.int64], place: NDArray[np.int64], known: NDArray[np.bool_], pieces: int, scales: ViewScales
) -> NDArray[np.int64]:
    views = len(scales.views)
    return np.bincount((code * views + place)[known], minlength=pieces * views).reshape(pieces, views)  # (P, V)


def _position_in_group(group: NDArray[np.int64]) -> NDArray[np.int64]:
    """0, 1, 2 ... within each group in the order of the rows, (N,)."""
    order = np.argsort(group, kind="stable")
    first = np.searchsorted(group[order], group[order], side="left")
    position = np.empty(len(group), np.int64)
    position[order] = np.arange(len(group)) - first
    return position
