"""Counts of lots, which can be added up over jobs, and the verdicts that follow from them."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from models.verdicts.rates import rate_of
from pipeline.verdicts.judge import Judge
from pipeline.verdicts.names import NOT_CALIBRATED, UNREADABLE
from pipeline.verdicts.pieces import Judged, first_images
from pipeline.verdicts.shown import Shown

if TYPE_CHECKING:
    from models.calibration.lot_decision import LotDecision, RankCounts

PLACE = pa.dictionary(pa.int32(), pa.string())
"""A place of many pieces: rows are as many as the pieces of a slice, so that their columns are small."""

IMAGES = pa.schema(
    [
        ("place", PLACE),
        ("lot", pa.string()),
        ("date", pa.string()),
        ("suspended", pa.string()),
        ("watched", pa.string()),
        ("planned", pa.int64()),
        ("unreadable", pa.int64()),
    ]
)
KINDS = [("place", PLACE), ("group", pa.int16()), ("number", pa.int16()), ("rank", pa.int32())]
PIECES = pa.schema(
    [
        *KINDS,
        ("tied", pa.int32()),
        ("counts", pa.bool_()),
        ("flagged", pa.bool_()),
        ("pieces", pa.int32()),
        ("above", pa.int32()),
    ]
)
Q = pa.schema([*KINDS, ("q", pa.float64())])
SUMS = ("planned", "unreadable", "pieces", "above")
SAME = ("lot", "date")
"""Columns that are summed up, and those that are the same for all rows of a place."""

TOO_MANY = "{unreadable:,} of {planned:,} images could not be read, more than {limit:.3g} %"


class LotCounts(NamedTuple):
    """images: by place and what drift says, with lot, date, the number of images and of those that could not be read; rows of
    IMAGES.
    pieces: by place and rank, with the number of pieces and of those above the threshold for lots; rows of PIECES, of 24 bytes,
    and at most as many as there are pieces.
    """

    images: pa.Table
    pieces: pa.Table


class Lot(NamedTuple):
    """A lot with its verdict. planned, unreadable: images.  flagged: pieces, incomplete ones too."""

    lot: str
    date: str
    planned: int
    unreadable: int
    flagged: int
    decision: "LotDecision"


class Lots(NamedTuple):
    """lots: by place.  q: the q-value of the pieces of a lot by place, group, number and rank."""

    lots: dict[str, Lot]
    q: pa.Table


def image_counts(rows: pa.Table, images: Shown) -> pa.Table:
    """`LotCounts.images` of these images."""
    columns = [
        images.place.dictionary_encode(),
        rows["lot"].cast(pa.string()),
        rows["date"].cast(pa.string()),
        images.suspended,
        images.watched,
        pa.repeat(pa.scalar(1), rows.num_rows),
        pc.is_null(rows["score"]).cast(pa.int64()),
    ]
    counted = pa.table(columns, schema=IMAGES)
    return _added(counted.filter(pc.is_valid(counted["lot"])))


def piece_counts(images: Shown, code: NDArray[np.int64], judged: Judged) -> pa.Table:
    """`LotCounts.pieces` of pieces all of whose images are there; those of no lot or no readable image are left out."""
    readable = np.zeros(len(judged.rank), np.bool_)
    readable[code[(images.fault != UNREADABLE) & images.in_lot]] = True
    columns = [
        images.place.dictionary_encode().take(first_images(code)),
        judged.group,
        judged.number,
        np.where(judged.counts, judged.rank, 0),
        np.where(judged.counts, judged.tied, 0),
        judged.counts,
        judged.verdict == "flagged",
        np.ones(len(judged.rank), np.int32),
        judged.counts & judged.above,
    ]
    typed = [pa.array(column).cast(field.type) for column, field in zip(columns, PIECES, strict=True)]
    return _added(pa.table(typed, schema=PIECES).filter(pa.array(readable)))


def added(counts: Iterable[LotCounts]) -> LotCounts:
    """The counts of disjoint images, and of disjoint pieces, together."""
    images, pieces = zip(*counts, strict=True)
    return LotCounts(_added(pa.concat_tables(images)), _added(pa.concat_tables(pieces)))


def decide(counts: LotCounts, judge_of: Mapping[str, Judge]) -> Lots:
    """The verdict on every lot.

    Args:
        judge_of: by place.
    """
    from models.calibration.lot_decision import RankCounts, q_by_rank  # see judge.py

    pieces, names = counts.pieces.filter(counts.pieces["counts"]), _places(counts.pieces).dictionary
    ordered, starts = _by_kind(pieces)
    ends = np.append(starts, ordered.num_rows)[1:]
    place, group, number, rank, tied, count, above = (
        _numbers(ordered, name) for name in ("place", "group", "number", "rank", "tied", "pieces", "above")
    )
    kinds: dict[int, list[tuple[tuple[int, int], RankCounts]]] = {}
    q = np.empty(ordered.num_rows)
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        of, kind = int(place[start]), (int(group[start]), int(number[start]))
        by_rank = RankCounts(rank[start:end], tied[start:end], count[start:end], int(above[start:end].sum()))
        kinds.setdefault(of, []).append((kind, by_rank))
        q[start:end] = q_by_rank(by_rank, len(judge_of[names[of].as_py()].kinds[kind].scores))
    flagged = _flagged(counts.pieces)
    of_name = {name: at for at, name in enumerate(names.to_pylist())}
    found = {}
    for name, rows in groupby(sorted(counts.images.to_pylist(), key=itemgetter("place")), itemgetter("place")):
        mine, at = list(rows), of_name.get(name, -1)
        planned, unreadable = (sum(row[column] for row in mine) for column in ("planned", "unreadable"))
        suspended, watched = ("; ".join(sorted({row[column] for row in mine} - {""})) for column in ("suspended", "watched"))
        decision = _decision(kinds.get(at, []), judge_of[name], planned, unreadable, suspended)
        if watched and decision.state == "ok":
            decision = decision._replace(state="watch", reason=f"{decision.reason}; {watched}")
        found[name] = Lot(mine[0]["lot"], mine[0]["date"], planned, unreadable, flagged.get(at, 0), decision)
    return Lots(found, ordered.select(Q.names[:-1]).append_column("q", pa.array(q)))


def q_of_places(q: pa.Table, of: Collection[str]) -> pa.Table:
    """The rows of `Lots.q` of these places."""
    places = _places(q)
    wanted = pc.index_in(pa.array(sorted(of), pa.string()), places.dictionary)
    return q.filter(pc.is_in(places.indices, wanted))


def q_values(q: pa.Table, place: pa.Array, group: pa.Array, number: pa.Array, rank: pa.Array) -> pa.Array:
    """The q-value of pieces, (P,), float64; null for those that count for no lot.

    Args:
        q: `Lots.q`.  place: as text.
        rank: null for pieces that do not count.
    """
    known = _places(q)
    mine = [pc.index_in(place, known.dictionary), group, number, rank]
    theirs = [known.indices, *(q[name] for name in Q.names[1:-1])]
    above = [1 + max(pc.max(column).as_py() or 0 for column in both) for both in zip(mine, theirs, strict=True)]
    return q["q"].combine_chunks().take(pc.index_in(_as_one(mine, above), _as_one(theirs, above)))


def _as_one(columns: Sequence[pa.Array], above: Sequence[int]) -> pa.Array:
    """Each row's numbers, which are below `above`, as one number; null if one of them is."""
    found = columns[0].cast(pa.int64())
    for column, limit in zip(columns[1:], above[1:], strict=True):
        found = pc.add(pc.multiply(found, limit), column.cast(pa.int64()))
    return found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found


def _by_kind(pieces: pa.Table) -> tuple[pa.Table, NDArray[np.int64]]:
    """The rows in order of place, group, number and rank, and where each (place, group, number) begins."""
    columns = [_numbers(pieces, name) for name in ("tied", "rank", "number", "group", "place")]
    order = np.lexsort(columns)
    kind = np.stack([column[order] for column in columns[2:]])
    starts = np.flatnonzero(np.append(True, (np.diff(kind, axis=1) != 0).any(axis=0)))[: pieces.num_rows]
    return pieces.take(pa.array(order)), starts


def _flagged(pieces: pa.Table) -> dict[int, int]:
    """Flagged pieces by number of the place."""
    flagged = np.asarray(pieces["flagged"])
    place, count = _numbers(pieces, "place")[flagged], _numbers(pieces, "pieces")[flagged]
    sums = np.bincount(place, count) if len(place) else np.zeros(0)
    return {at: int(sums[at]) for at in np.flatnonzero(sums).tolist()}


def _numbers(pieces: pa.Table, name: str) -> NDArray[np.int64]:
    column = _places(pieces).indices if name == "place" else pieces[name]
    return np.asarray(column, np.int64)


def _places(table: pa.Table) -> pa.DictionaryArray:
    return table["place"].combine_chunks()


def _decision(
    lot: list[tuple[tuple[int, int], "RankCounts"]], judge: Judge, planned: int, unreadable: int, suspended: str
) -> "LotDecision":
    """suspended: why drift leaves images of the lot without a verdict, "" for none. Such a lot is never ok."""
    from models.calibration.lot_decision import LotDecision, decide_lot

    if judge.calibration is None:
        return LotDecision(0, "not_judged", NOT_CALIBRATED)
    judged = sum(int(counts.pieces.sum()) for _, counts in lot)
    if unreadable > judge.rule.max_unreadable * planned:
        limit = 100 * judge.rule.max_unreadable
        return LotDecision(judged, "not_judged", TOO_MANY.format(unreadable=unreadable, planned=planned, limit=limit))
    if not judged and suspended:
        return LotDecision(0, "not_judged", suspended)
    if not judged:
        return LotDecision(0, "not_judged", "no piece could be judged; `reason` in scores says why")
    kinds = [(judge.kinds[place], counts) for place, counts in lot]
    decision = decide_lot(kinds, rate_of(judge.rule.false_share), judge.rule.most_needed)
    if suspended and decision.state != "hold":
        return decision._replace(state="not_judged", reason=f"{decision.reason}; {suspended}")
    return decision


def _added(counted: pa.Table) -> pa.Table:
    """The sums by all other columns, of rows of IMAGES or PIECES."""
    schema, counted = counted.schema, counted.unify_dictionaries()
    places = _places(counted)
    numbered = counted.set_column(0, "place", places.indices)
    by = [name for name in schema.names if name not in SUMS + SAME]
    wanted = [(name, "sum" if name in SUMS else "min") for name in schema.names if name in SUMS + SAME]
    found = numbered.group_by(by).aggregate(wanted)
    named = [found[name if name in by else f"{name}_{'sum' if name in SUMS else 'min'}"] for name in schema.names]
    named[0] = pa.DictionaryArray.from_arrays(named[0].combine_chunks(), places.dictionary)
    return pa.table([column.cast(field.type) for column, field in zip(named, schema, strict=True)], schema=schema)
