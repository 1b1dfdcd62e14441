"""What the tables must say of images, pieces and lots: decided from all images of a lot at once, without the product's jobs."""

import functools
from collections import defaultdict
from collections.abc import Iterable
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from models.calibration.calibration import Calibration
from models.calibration.lot_decision import LotDecision, RankCounts, decide_lot, kind_of
from models.verdicts.image_p import image_p, image_ranks
from models.verdicts.pieces import Images, piece_scores, verdicts
from models.verdicts.rates import rate_of
from models.verdicts.within_lot import q_values
from pipeline.verdicts.rule import Rule

VERDICT = (
    *("calibration_digest", "calibration_group", "piece", "view", "rank", "n_calibration", "p_value", "piece_p", "q_value"),
    *("verdict", "reason"),
)
DIGITS = 12
"""Of q-values, which are compared to so many decimals: they may be computed in several ways."""
NOT_CALIBRATED = (None,) * 9 + ("not_judged", "not calibrated")
OF_LOT = (
    *("lot", "date", "revision", "expected", "planned", "scored", "unreadable", "pieces", "flagged", "hold_limit"),
    *("min_flaggable", "lot_p", "shift_p", "defects_at_least", "basis", "rate", "state", "reason", "model_digest"),
    *("calibration_digest", "entry"),
)


OfImage = dict[str, str]
"""By image_id."""


class Image(NamedTuple):
    """keys: fields of its path and their values.  score: None where it could not be read."""

    run_id: str
    uri: str
    member: str
    image_id: str
    keys: tuple[tuple[str, str], ...]
    score: float | None

    def key(self, name: str) -> str | None:
        return dict(self.keys).get(name)


class Law(NamedTuple):
    """The rule for the scores of a model. entry: its number.  calibration: None if it has none."""

    entry: int
    digest: str
    rule: Rule
    calibration: Calibration | None

    def __hash__(self) -> int:
        return hash((self.digest, self.rule))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Law) and (self.digest, self.rule) == (other.digest, other.rule)


class Ranked(NamedTuple):
    """A piece that was ranked. images: image_id of those with a score.  score: float32."""

    images: tuple[str, ...]
    score: np.float32
    counts: bool


class Decided(NamedTuple):
    """Of the images of one day and lot. images: VERDICT by image_id, at the rate.  ranked: pieces.
    lot: (planned, unreadable, flagged, decision).
    """

    images: dict[str, tuple]
    ranked: tuple[Ranked, ...]
    lot: tuple[int, int, int, LotDecision]


class _Piece(NamedTuple):
    """kind: (group, row of its sets).  said: (rank, n, verdict, reason).  counts: for its lot."""

    images: list[Image]
    kind: tuple[int, int]
    score: np.float32
    tied: int
    above: bool
    counts: bool
    rank: int | None
    n: int | None
    verdict: str
    reason: str


_kind = functools.lru_cache(256)(lambda calibration, at, row, rate: kind_of(calibration, calibration.groups[at], row, rate))
_good = functools.lru_cache(256)(lambda calibration, at, view: calibration.images_of(calibration.groups[at], view))


@functools.lru_cache(maxsize=4096)
def decided(images: tuple[Image, ...], in_lot: bool, law: Law) -> Decided:
    """The verdicts on all images of one day and one lot, or of one day and no lot."""
    calibration, rule = law.calibration, law.rule
    assert calibration is not None
    rate = rate_of(rule.rate)
    fault = {image.image_id: _fault(image, calibration) for image in images}
    group = {image.image_id: _group(image, calibration, rate) for image in images}
    pieces = [_piece(mine, calibration, rate, fault, group) for mine in _pieces(images, calibration)]
    of_kind = defaultdict(list)
    for piece in pieces:
        if piece.counts:
            of_kind[piece.kind].append(piece)
    q = {}
    for of in of_kind.values() if in_lot else ():
        found = q_values(np.array([piece.rank for piece in of]), of[0].n)
        q |= {piece.images[0].image_id: float(value) for piece, value in zip(of, found, strict=True)}
    columns = {}
    for piece in pieces:
        for image in piece.images:
            if image.score is None:
                continue
            at, view = group[image.image_id], _view(image, calibration)
            columns[image.image_id] = (
                rule.calibration,
                _name(calibration, at),
                _piece_name(image, calibration),
                view,
                piece.rank,
                piece.n,
                _image_p(image, calibration, at) if not fault[image.image_id] and at >= 0 else None,
                None if piece.rank is None else piece.rank / (piece.n + 1),
                _rounded(q.get(piece.images[0].image_id)) if piece.counts else None,
                piece.verdict,
                piece.reason or None,
            )
    unreadable = sum(image.score is None for image in images)
    flagged = sum(piece.verdict == "flagged" and any(image.score is not None for image in piece.images) for piece in pieces)
    ranked = tuple(
        Ranked(tuple(image.image_id for image in piece.images if image.score is not None), piece.score, piece.counts)
        for piece in pieces
        if piece.rank is not None
    )
    return Decided(columns, ranked, (len(images), unreadable, flagged, _lot(of_kind, law, len(images), unreadable)))


def _rounded(q: float | None) -> float | None:
    return None if q is None else round(q, DIGITS)


def _fault(image: Image, calibration: Calibration) -> str:
    keys = calibration.keys
    if image.score is None:
        return "not readable"
    for name in (name for name in keys.piece if name != "lot"):
        if image.key(name) is None:
            return f"the path says no {name}, so its piece is not known"
    if keys.view is not None:
        view = image.key(keys.view)
        if view is None:
            return f"the path says no {keys.view}, so its view is not known"
        if view not in calibration.selection.scales.views.tolist():
            return f"{keys.view} {view!r} is not in the calibration"
    for name, seen in zip(keys.by, calibration.seen, strict=True):
        if image.key(name) is None:
            return f"the path says no {name}, so its calibration group is not known"
        if image.key(name) not in seen:
            return f"{name} {image.key(name)!r} is not in the calibration"
    return ""


def _group(image: Image, calibration: Calibration, rate: Fraction) -> int:
    found = calibration.group_for(tuple(image.key(name) or "" for name in calibration.keys.by), rate)
    return next((at for at, group in enumerate(calibration.groups) if group is found), -1)


def _name(calibration: Calibration, at: int) -> str | None:
    if at < 0:
        return None
    by = calibration.groups[at].by
    return ", ".join(f"{key}={value}" for key, value in zip(calibration.keys.by, by, strict=False)) or "all"


def _piece_name(image: Image, calibration: Calibration) -> str | None:
    """What names its piece within day and lot; None where an image is a piece, or it is not known."""
    values = [image.key(name) for name in calibration.keys.piece if name != "lot"]
    return "/".join(values) if values and None not in values else None


def _view(image: Image, calibration: Calibration) -> str | None:
    return image.key(calibration.keys.view) if calibration.keys.view else None


def _pieces(images: Iterable[Image], calibration: Calibration) -> list[list[Image]]:
    """The images of each piece, in the order in which they were taken: by slice, object and member."""
    found = defaultdict(list)
    for image in sorted(images):
        found[_piece_name(image, calibration) or (image.image_id,)].append(image)
    return list(found.values())


def _piece(
    images: list[Image], calibration: Calibration, rate: Fraction, fault: dict[str, str], group: dict[str, int]
) -> _Piece:
    at = group[images[0].image_id]
    reason = next((fault[image.image_id] for image in images if fault[image.image_id]), "")
    if any(group[image.image_id] != at for image in images):
        reason = "its images have several calibration groups"
    if at < 0:
        return _Piece(images, (at, 0), np.float32(0), 0, False, False, None, None, "not_judged", reason)
    of = calibration.groups[at]
    mine = [image for image in images if group[image.image_id] == at]
    views = np.array([_view(image, calibration) or "" for image in mine], np.str_)
    score = np.array([image.score or 0 for image in mine], np.float32)
    taken = Images(np.zeros(len(mine), np.int64), views, score, np.array([not fault[image.image_id] for image in mine]))
    scored = piece_scores(taken, calibration.selection.scales, of.sets)
    said = verdicts(scored, of.calibrations(), rate, "views" if calibration.keys.view else "images")
    flagged = said.verdict[0] == "flagged"
    if not reason or (flagged and said.reason[0]):
        clear, reason = not reason, said.reason[0]
    else:
        clear = False
    row, named = int(scored.number[0]), not calibration.keys.piece or _piece_name(images[0], calibration) is not None
    kind, ranked = _kind(calibration, at, row, rate), bool(said.ranked[0])
    return _Piece(
        images,
        (at, row),
        scored.score[0],
        int((of.scores(row) == scored.score[0]).sum()),
        ranked and kind is not None and kind.threshold is not None and float(scored.score[0]) > kind.threshold,
        reason == "",
        int(said.rank[0]) if ranked else None,
        int(said.n[0]) if named and scored.belongs[0] and said.n[0] else None,
        said.verdict[0] if flagged or clear else "not_judged",
        reason,
    )


def _image_p(image: Image, calibration: Calibration, at: int) -> float:
    good = _good(calibration, at, _view(image, calibration) or "")
    return float(image_p(image_ranks([image.score], good), good)[0])


def _lot(of_kind: dict[tuple[int, int], list[_Piece]], law: Law, planned: int, unreadable: int) -> LotDecision:
    rule, calibration = law.rule, law.calibration
    assert calibration is not None
    judged = sum(map(len, of_kind.values()))
    if unreadable > rule.max_unreadable * planned:
        limit = 100 * rule.max_unreadable
        says = f"{unreadable:,} of {planned:,} images could not be read, more than {limit:.3g} %"
        return LotDecision(judged, "not_judged", says)
    if not judged:
        return LotDecision(0, "not_judged", "no piece could be judged; `reason` in scores says why")
    kinds = []
    for (at, row), pieces in sorted(of_kind.items()):
        kind = _kind(calibration, at, row, rate_of(rule.rate))
        places = np.array([(piece.rank, piece.tied) for piece in pieces])
        unique, counts = np.unique(places, axis=0, return_counts=True)
        kinds.append((kind, RankCounts(unique[:, 0], unique[:, 1], counts, sum(piece.above for piece in pieces))))
    return decide_lot(kinds, rate_of(rule.false_share), rule.most_needed)
