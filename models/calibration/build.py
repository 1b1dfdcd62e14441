"""Makes a calibration of scored good images: which pieces are complete, which groups stand for themselves."""

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.calibration.calibration import Calibration, GoodImages, Grid, Group, Keys, Mode, Selection, StoredImage
from models.faults import VerdictError
from models.verdicts.pieces import Images, piece_scores, piece_sets
from models.verdicts.rates import pieces_needed
from models.verdicts.view_scales import ViewScales, fit_scales

ALIKE = Fraction(9, 10)  # share of pieces with the same images from which all others count as incomplete
STORED = 200


class Scored(NamedTuple):
    """Good images in the order of their keys, each column (N,).

    lot: "" where none is known.  by: values of the `by` keys.  member: of a shard, else None.
    """

    images: Images
    lot: NDArray[np.str_]
    by: list[tuple[str, ...]]
    uri: list[str]
    member: list[str | None]
    content_hash: list[str]

    def take(self, chosen: NDArray[np.bool_]) -> "Scored":
        """The chosen images, (N,) bool.

        >>> from models.calibration.example import scored
        >>> len(scored(pieces=3).take(np.array([True, False, True])).uri)
        2
        """
        rows = np.flatnonzero(chosen).tolist()
        piece, view, score, readable = self.images
        return Scored(
            Images(piece[chosen], view[chosen], score[chosen], readable[chosen]),
            self.lot[chosen],
            [self.by[row] for row in rows],
            [self.uri[row] for row in rows],
            [self.member[row] for row in rows],
            [self.content_hash[row] for row in rows],
        )


class Belongs(NamedTuple):
    """To what the calibration belongs."""

    model_digest: str
    mode: Mode
    grid: Grid
    keys: Keys


def calibrate(good: Scored, selection: Selection, belongs: Belongs, rates: Sequence[Fraction]) -> Calibration:
    """The calibration of good images.

    Args:
        selection: with scales for every view of the images.
        rates: that will be used; a value of the `by` keys gets a group if it has enough pieces for the largest.
    Raises:
        VerdictError: no piece is complete; a piece lies in two lots; a view has no scale.

    >>> from models.calibration.example import scored, selection
    >>> belongs = Belongs("00", Mode("cpu-float32", 16, 5), Grid(64, 64, "squash", ((8, 8),)), Keys(by=("line",)))
    >>> made = calibrate(scored(pieces=60), selection(), belongs, [Fraction("0.1")])
    >>> made.groups[0].scores().shape, made.seen
    ((60,), (('A', 'B'),))
    """
    scales, images = selection.scales, good.images
    unknown = sorted(set(images.view.tolist()) - set(scales.views.tolist()))
    if unknown:
        known = ", ".join(map(repr, scales.views.tolist()))
        raise VerdictError(
            f"views must be those that have a scale, {known}; got {unknown}. Calibrate with the images that train selected on."
        )
    names, first = np.unique(images.piece, return_index=True)
    _check_one_value(good, names, first, belongs.keys)
    lots, lot = np.unique(good.lot[first], return_inverse=True)
    by = [good.by[at] for at in first.tolist()]
    least = pieces_needed(max(rates)).on_average
    parent = _group(images, names, lot, (), scales, least)
    if not len(parent.score):
        raise VerdictError(f"complete pieces must be 1 or more; got 0 of {len(names)}. Give good images that can be read.")
    groups = [parent]
    of_image = np.searchsorted(names, images.piece)
    for values in sorted(set(by)) if belongs.keys.by else []:
        mine = np.array([each == values for each in by], bool)[of_image]
        group = _group(good.take(mine).images, names, lot, values, scales, least)
        if belongs.keys.lot is not None and group.enough(max(rates)):
            groups.append(group)
    seen = tuple(tuple(sorted({values[at] for values in by})) for at in range(len(belongs.keys.by)))
    used = np.unique(np.concatenate([group.piece for group in groups]))
    mine = np.isin(of_image, used) & images.readable
    kept = GoodImages(
        images.score[mine], np.searchsorted(used, of_image[mine]), np.searchsorted(scales.views, images.view[mine])
    )
    hashes = tuple(sorted({good.content_hash[at] for at in np.flatnonzero(images.readable).tolist()}))
    return Calibration(
        *belongs,
        selection,
        tuple(group._replace(piece=np.searchsorted(used, group.piece)) for group in groups),
        kept,
        tuple(lots.tolist()),
        seen,
        hashes,
        _stored(good, np.flatnonzero(mine)),
    )


def select(selected: Scored, good: Scored, keys: Keys) -> Selection:
    """Scales from images of the selection set, and the scores of its pieces.

    Args:
        selected: images of the selection set; may be none.
        good: the calibration's, of which only views and image counts are read, never scores.
    Raises:
        VerdictError: there are several views, and one has no images in the selection set, or no spread of scores there.

    >>> from models.calibration.example import scored
    >>> select(scored(pieces=30), scored(pieces=60), Keys()).basis
    '30 images of the selection set'
    """
    views = np.unique(good.images.view)
    usable = selected.take(selected.images.readable & np.isin(selected.images.view, views))
    score, view = usable.images.score, usable.images.view
    basis = f"{len(score):,} images of the selection set"
    lacking = sorted(set(views.tolist()) - set(view.tolist()))
    if len(views) > 1 and lacking:
        raise VerdictError(
            f"images of the selection set must show every view, {', '.join(map(repr, views.tolist()))}, since views are put on "
            f"one scale by them; got none of {lacking}. Calibrate from the input that train read, or leave out the view key."
        )
    if len(views) == 1 and (len(score) == 0 or np.quantile(score, 0.9) <= np.quantile(score, 0.5)):
        # With one view every scale gives the same ranks, so raw scores will do.
        basis, scales = "none: one view, raw scores", ViewScales(views, np.zeros(1), np.ones(1))
    else:
        scales = fit_scales(score, view)
    if len(score) == 0:
        return Selection(scales, basis, np.zeros(0, np.float32), np.zeros(0, np.int64))
    sets = usual_sets(good.images, scales, least=1)
    found = piece_scores(selected.images, scales, sets)
    names, first = np.unique(selected.images.piece, return_index=True)
    complete = found.complete()
    lot = np.unique(selected.lot[first], return_inverse=True)[1][complete]
    order = np.lexsort((found.piece[complete], found.score[complete]))
    return Selection(scales, basis, found.score[complete][order], np.unique(lot, return_inverse=True)[1][order])


def usual_sets(images: Images, scales: ViewScales, least: int) -> NDArray[np.int64]:
    """What complete pieces consist of, (K, V), the most frequent first.

    If 9 of 10 pieces have the same images, that is a piece, and the others are incomplete. Otherwise image counts vary, and
    every set that at least `least` pieces have is a piece of its own kind.

    >>> from models.calibration.example import scored
    >>> usual_sets(scored(pieces=9, images=2).images, ViewScales(np.array([""]), np.zeros(1), np.ones(1)), least=1)
    array([[2]])
    """
    found = piece_sets(images, scales)
    if found.pieces[0] >= ALIKE * int(found.pieces.sum()):
        return found.sets[:1]
    often = found.pieces >= least
    return found.sets[often] if often.any() else found.sets[:1]


def _group(
    images: Images,
    names: NDArray[np.str_],
    lot: NDArray[np.int64],
    by: tuple[str, ...],
    scales: ViewScales,
    least: int,
) -> Group:
    sets = usual_sets(images, scales, least)
    found = piece_scores(images, scales, sets)
    complete = np.flatnonzero(found.complete())
    order = complete[np.argsort(found.score[complete], kind="stable")]
    piece = np.searchsorted(names, found.piece[order])
    return Group(by, sets, found.score[order], found.number[order], lot[piece], piece)


def _check_one_value(good: Scored, names: NDArray[np.str_], first: NDArray[np.int64], keys: Keys) -> None:
    """A piece is from one lot and has one value of each `by` key; else the name is used for several pieces."""
    code = np.searchsorted(names, good.images.piece)
    for row, start in enumerate(first[code].tolist()):
        for what, value, other in (("lot", str(good.lot[start]), str(good.lot[row])), ("by", good.by[start], good.by[row])):
            if value != other:
                key = keys.lot if what == "lot" else "the keys of by"
                named = ",".join(filter(None, [keys.lot if what == "lot" else ",".join(keys.by), *keys.piece]))
                raise VerdictError(
                    f"a piece must have one value of {key}; got {value!r} and {other!r} for {str(names[code[row]])!r}. "
                    f"If such names repeat, name pieces by several keys: --piece-key {named}."
                )


def _stored(good: Scored, rows: NDArray[np.int64]) -> tuple[StoredImage, ...]:
    """Images over the whole range of scores, from the lowest to the highest."""
    order = rows[np.lexsort((rows, good.images.score[rows]))]
    chosen = np.unique(np.linspace(0, len(order) - 1, min(STORED, len(order))).round().astype(np.int64))
    return tuple(
        StoredImage(
            good.uri[row],
            good.member[row],
            good.content_hash[row],
            str(good.images.view[row]),
            float(good.images.score[row]),
        )
        for row in order[chosen].tolist()
    )
