"""What images show, as far as verdicts depend on it: which piece and view, with which score, and why one cannot be compared."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from models.calibration.calibration import Calibration
from pipeline.verdicts.judge import Judge, Nights
from pipeline.verdicts.names import NOT_CALIBRATED, UNREADABLE

BETWEEN = "/"
"""Of the values that together name a piece; no value of a path holds one."""

COLUMNS = ("lot", "date", "score", "device", "scoring_version", "grid")
"""Columns that are always needed; `Judge.key_names` adds others."""
ORDER = ("run_id", "uri", "member")
"""Columns that order the images of one piece: a later slice is a retake."""

DIGITS = 16  # of a digest, which tell models apart
Texts = NDArray[Any]
"""(N,), Python strings: an array of str would take the longest text's memory for each."""


class Shown(NamedTuple):
    """Images, one a row, each column (N,).

    place: model, day and lot as one text, which only images of one lot (or of none) have in common.
    in_lot: whether it has one.
    night: the production day.
    piece: a text within the place; "" if the image is a piece, or its piece is not known.  view: "" if there is one view.
    group: position of the calibration's group that it is compared with; -1 for none.
    score: raw.  fault: why the image cannot be compared, "" if it can.
    order: of the images of a piece.
    suspended, watched: what drift says of its night, "" if nothing.
    """

    place: pa.Array
    in_lot: NDArray[np.bool_]
    night: pa.DictionaryArray
    piece: pa.Array
    view: Texts
    group: NDArray[np.int64]
    score: NDArray[np.float32]
    fault: Texts
    order: NDArray[np.int64]
    suspended: pa.Array
    watched: pa.Array


def shown(rows: pa.Table, judge: Judge) -> Shown:
    """What scored images show.

    Args:
        rows: images of the judge's model, with a score or without: COLUMNS, the judge's key names, and ORDER if several images
            may show a piece.
    """
    count, calibration = rows.num_rows, judge.calibration
    score = pc.fill_null(rows["score"], 0.0).to_numpy().astype(np.float32)
    place, in_lot = places(rows["lot"], rows["date"], judge.digest), np.asarray(pc.is_valid(rows["lot"]))
    none, night = pa.repeat(pa.scalar(""), count), _one(_texts(rows["date"])).dictionary_encode()
    if calibration is None:
        faults = np.full(count, NOT_CALIBRATED, object)
        empty, order = np.full(count, "", object), np.arange(count)
        return Shown(place, in_lot, night, none, empty, np.full(count, -1), score, faults, order, none, none)
    keys = calibration.keys
    names = [name for name in keys.piece if name != "lot"] or list(keys.piece)
    fault = np.where(np.asarray(pc.is_null(rows["score"])), UNREADABLE, "").astype(object)
    piece = none
    if names:
        parts = [_texts(rows[name]) for name in names]
        joined = pc.binary_join_element_wise(*parts, BETWEEN) if len(parts) > 1 else parts[0]  # null if one of them is
        piece = _one(pc.fill_null(joined, ""))
        _lacking(fault, rows, names, "piece")
    view = np.full(count, "", object)
    if keys.view is not None:
        view = np.array(pc.fill_null(_texts(rows[keys.view]), "").to_pylist(), object)
        _lacking(fault, rows, [keys.view], "view")
        known = set(calibration.selection.scales.views.tolist())
        for value in sorted(set(view[fault == ""].tolist()) - known):
            _mark(fault, view == value, f"{keys.view} {value!r} is not in the calibration")
    group = _groups(fault, rows, judge, calibration)
    _other_mode(fault, rows, calibration)
    suspended, watched = (_of_nights(rows, night, calibration, nights) for nights in (judge.suspended, judge.watched))
    for says in sorted(set(pc.unique(suspended).to_pylist()) - {""}):
        _mark(fault, np.asarray(pc.equal(suspended, says)), says)
    order = np.arange(count)
    if names:
        taken = pc.sort_indices(rows.select(list(ORDER)), sort_keys=[(name, "ascending") for name in ORDER])
        order[taken.to_numpy()] = np.arange(count)
    return Shown(place, in_lot, night, piece, view, group, score, fault, order, suspended, watched)


def places(lot: pa.ChunkedArray, date: pa.ChunkedArray, digest: str) -> pa.Array:
    """Model, day and lot as one text each, (N,); no lot is another text than any lot."""
    named = pc.fill_null(pc.binary_join_element_wise("=", _texts(lot), ""), "")
    return _one(pc.binary_join_element_wise(digest[:DIGITS], _texts(date), named, "\n"))


def drift_groups(rows: pa.Table, by: Sequence[str]) -> pa.Array:
    """Which images are charted together for drift, (N,): the values of the calibration's `by` keys as one text, "all" if it
    has none; null where one is not known. It does not depend on the rate, as the group that a piece is compared with does."""
    if not by:
        return pa.repeat(pa.scalar("all"), rows.num_rows)
    named = (pc.binary_join_element_wise(name, _texts(rows[name]), "=") for name in by)
    return _one(pc.binary_join_element_wise(*named, ", "))


class Within(NamedTuple):
    """All of some places are from the first to the last of these days and lots; lots None if one of them has no lot."""

    days: tuple[str, str]
    lots: tuple[str, str] | None


def within(of: Iterable[str]) -> Within:
    """The bounds of places, as `places` writes them."""
    parts = [place.split("\n", 2)[1:] for place in of]
    days, lots = [day for day, _ in parts], [lot for _, lot in parts]
    named = None if "" in lots else (min(lots)[1:], max(lots)[1:])
    return Within((min(days), max(days)), named)


def _groups(fault: Texts, rows: pa.Table, judge: Judge, calibration: Calibration) -> NDArray[np.int64]:
    """The group of each image, marking those with a value that the calibration has never seen."""
    by = calibration.keys.by
    if not by:
        return np.zeros(rows.num_rows, np.int64)
    _lacking(fault, rows, list(by), "calibration group")
    for name, seen in zip(by, calibration.seen, strict=True):
        values = np.array(pc.fill_null(_texts(rows[name]), "").to_pylist(), object)
        for value in sorted(set(values[fault == ""].tolist()) - set(seen)):
            _mark(fault, values == value, f"{name} {value!r} is not in the calibration")
    at = {id(group): number for number, group in enumerate(calibration.groups)}
    columns = [pc.fill_null(_texts(rows[name]), "").to_pylist() for name in by]
    of = list(zip(*columns, strict=True))
    found = {values: calibration.group_for(values, judge.rate) for values in set(of)}
    numbers = {values: -1 if group is None else at[id(group)] for values, group in found.items()}
    return np.array([numbers[values] for values in of], np.int64)


def _of_nights(rows: pa.Table, night: pa.DictionaryArray, calibration: Calibration, nights: Nights) -> pa.Array:
    """What is said of each image's night, (N,); "" if nothing."""
    found = pa.repeat(pa.scalar(""), rows.num_rows)
    days = set(night.dictionary.to_pylist())
    here = [(group, day, says) for (group, day), says in nights.items() if day in days]
    groups = drift_groups(rows, calibration.keys.by) if here else None
    for group, day, says in here:
        mine = pc.and_(pc.equal(groups, group), pc.equal(night, day))
        found = pc.if_else(pc.fill_null(mine, False), says, found)
    return found


def _other_mode(fault: Texts, rows: pa.Table, calibration: Calibration) -> None:
    """Mark images whose scores do not compare: other arithmetic, other rules, another grid of cells."""
    mode = calibration.mode
    for other, mine in _values(_texts(rows["device"])):
        if other != mode.label:
            _mark(fault, mine(), f"scored on {other}, calibrated on {mode.label}")
    for other, mine in _values(rows["scoring_version"]):
        if other != mode.scoring_version:
            _mark(fault, mine(), f"scored by version {other} of the scoring code, calibrated by {mode.scoring_version}")
    known: list[str | None] = [f"{height} x {width}" for height, width in calibration.grid.maps]
    if calibration.grid.resize != "tile":
        known.append(None)  # rows of earlier versions do not say it; but such a model has one grid for all images
    for other, mine in _values(_texts(rows["grid"])):
        if other not in known:
            says = f"a map of {other} cells, and the calibration is for {', '.join(filter(None, known))}"
            _mark(fault, mine(), "no map size is known" if other is None else says)


def _values(column: pa.ChunkedArray) -> list[tuple[Any, Callable[[], NDArray[np.bool_]]]]:
    """Each value of a column, with the rows that have it, which are computed when they are asked for."""

    def rows_with(value: Any) -> NDArray[np.bool_]:
        if value is None:
            return np.asarray(pc.is_null(column))
        return np.asarray(pc.fill_null(pc.equal(column, value), False))

    return [(value, partial(rows_with, value)) for value in pc.unique(column).to_pylist()]


def _lacking(fault: Texts, rows: pa.Table, names: list[str], what: str) -> None:
    for name in names:
        lacks = np.asarray(pc.is_null(rows[name]))
        _mark(fault, lacks, f"the path says no {name}, so its {what} is not known")


def _mark(fault: Texts, where: NDArray[np.bool_], says: str) -> None:
    """The first fault of an image stays."""
    fault[where & (fault == "")] = says


def _texts(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(pa.string())


def _one(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
