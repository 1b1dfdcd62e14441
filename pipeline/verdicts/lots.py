"""Counts of lots, which can be added up over jobs, and the verdicts that follow from them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from models.calibration.lot_decision import LotDecision, RankCounts, decide_lot, q_by_rank
from models.verdicts.rates import rate_of
from pipeline.verdicts.judge import Judge
from pipeline.verdicts.names import NOT_CALIBRATED, UNREADABLE
from pipeline.verdicts.pieces import Judged
from pipeline.verdicts.shown import Shown

IMAGES = ["place", "lot", "date"]
PIECES = ["place", "group", "number", "rank", "tied", "counts", "flagged"]
_Q = pa.schema(
    [
        ("place", pa.string()),
        ("group", pa.int32()),
        ("number", pa.int32()),
        ("rank", pa.int64()),
        ("q", pa.float64()),
    ]
)
TOO_MANY = "{unreadable:,} of {planned:,} images could not be read, more than {limit:.3g} %"


class LotCounts(NamedTuple):
    """images: by place, with lot, date, the number of images and of those that could not be read.
    pieces: by place and rank, with the number of pieces and of those above the threshold for lots. Its size grows with the
    number of lots and of calibration pieces, not with images.
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
    decision: LotDecision


class Lots(NamedTuple):
    """lots: by place.  q: the q-value of the pieces of a lot by place, group, number and rank."""

    lots: dict[str, Lot]
    q: pa.Table


def image_counts(rows: pa.Table, images: Shown) -> pa.Table:
    """`LotCounts.images` of these images."""
    counted = pa.table(
        {
            "place": images.place,
            "lot": rows["lot"].cast(pa.string()),
            "date": rows["date"].cast(pa.string()),
            "planned": pa.repeat(pa.scalar(1), rows.num_rows),
            "unreadable": pc.is_null(rows["score"]).cast(pa.int64()),
        }
    )
    return _added(counted.filter(pc.is_valid(counted["lot"])), IMAGES)


def piece_counts(images: Shown, code: NDArray[np.int64], judged: Judged) -> pa.Table:
    """`LotCounts.pieces` of pieces all of whose images are there; those of no lot or no readable image are left out."""
    first = np.full(len(judged.rank), -1)
    first[code[::-1]] = np.arange(len(code))[::-1]
    readable = np.zeros(len(judged.rank), np.bool_)
    readable[code[(images.fault != UNREADABLE) & images.in_lot]] = True
    counted = pa.table(
        {
            "place": images.place.take(pa.array(first)),
            "group": judged.group,
            "number": judged.number,
            "rank": np.where(judged.counts, judged.rank, 0),
            "tied": np.where(judged.counts, judged.tied, 0),
            "counts": judged.counts,
            "flagged": judged.verdict == "flagged",
            "pieces": np.ones(len(judged.rank), np.int64),
            "above": (judged.counts & judged.above).astype(np.int64),
        }
    )
    return _added(counted.filter(pa.array(readable)), PIECES)


def added(counts: Iterable[LotCounts]) -> LotCounts:
    """The counts of disjoint images, and of disjoint pieces, together."""
    images, pieces = zip(*counts, strict=True)
    return LotCounts(_added(pa.concat_tables(images), IMAGES), _added(pa.concat_tables(pieces), PIECES))


def decide(counts: LotCounts, judge_of: Mapping[str, Judge]) -> Lots:
    """The verdict on every lot.

    Args:
        judge_of: by place.
    """
    kinds: dict[str, list[tuple[tuple[int, int], RankCounts]]] = {}
    q = [_Q.empty_table()]
    for place, group, number, by_rank in _by_kind(counts.pieces.filter(counts.pieces["counts"])):
        kinds.setdefault(place, []).append(((group, number), by_rank))
        adjusted = q_by_rank(by_rank, len(judge_of[place].kinds[group, number].scores))
        same = (pa.repeat(pa.scalar(value), len(adjusted)) for value in (place, group, number))
        q.append(pa.table([*same, by_rank.rank, adjusted], schema=_Q))
    flagged = _added(counts.pieces.filter(counts.pieces["flagged"]).select(["place", "pieces"]), ["place"])
    of_place = dict(zip(flagged["place"].to_pylist(), flagged["pieces"].to_pylist(), strict=True))
    found = {}
    for row in counts.images.to_pylist():
        place, planned, unreadable = row["place"], row["planned"], row["unreadable"]
        decision = _decision(kinds.get(place, []), judge_of[place], planned, unreadable)
        found[place] = Lot(row["lot"], row["date"], planned, unreadable, of_place.get(place, 0), decision)
    return Lots(found, pa.concat_tables(q).combine_chunks())


def q_values(q: pa.Table, place: pa.Array, group: pa.Array, number: pa.Array, rank: pa.Array) -> pa.Array:
    """The q-value of pieces, (P,), float64; null for those that count for no lot.

    Args:
        q: `Lots.q`.
        rank: null for pieces that do not count.
    """
    known = pc.unique(q["place"])
    mine, theirs = ([pc.index_in(of, known), *rest] for of, *rest in ((place, group, number, rank), q.columns[:4]))
    above = [1 + max(pc.max(column).as_py() or 0 for column in both) for both in zip(mine, theirs, strict=True)]
    return q["q"].combine_chunks().take(pc.index_in(_as_one(mine, above), _as_one(theirs, above)))


def _as_one(columns: Sequence[pa.Array], above: Sequence[int]) -> pa.Array:
    """Each row's numbers, which are below `above`, as one number; null if one of them is."""
    found = columns[0].cast(pa.int64())
    for column, limit in zip(columns[1:], above[1:], strict=True):
        found = pc.add(pc.multiply(found, limit), column.cast(pa.int64()))
    return found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found


def _by_kind(pieces: pa.Table) -> Iterator[tuple[str, int, int, RankCounts]]:
    """(place, group, number, counts by rank) of pieces that count."""
    ordered = pieces.sort_by([(name, "ascending") for name in ("place", "group", "number", "rank", "tied")])
    place = ordered["place"].combine_chunks().dictionary_encode()
    names = [place.indices, *(ordered[name] for name in ("group", "number"))]
    kind = np.stack([np.asarray(column, np.int64) for column in names])
    starts = np.flatnonzero(np.append(True, (np.diff(kind, axis=1) != 0).any(axis=0)))[: ordered.num_rows]
    columns = [np.asarray(ordered[name], np.int64) for name in ("rank", "tied", "pieces", "above")]
    for start, end in zip(starts, np.append(starts, ordered.num_rows)[1:], strict=True):
        rank, tied, count, above = (column[start:end] for column in columns)
        at, group, number = kind[:, start].tolist()
        yield place.dictionary[at].as_py(), group, number, RankCounts(rank, tied, count, int(above.sum()))


def _decision(lot: list[tuple[tuple[int, int], RankCounts]], judge: Judge, planned: int, unreadable: int) -> LotDecision:
    if judge.calibration is None:
        return LotDecision(0, "not_judged", NOT_CALIBRATED)
    judged = sum(int(counts.pieces.sum()) for _, counts in lot)
    if unreadable > judge.rule.max_unreadable * planned:
        limit = 100 * judge.rule.max_unreadable
        return LotDecision(judged, "not_judged", TOO_MANY.format(unreadable=unreadable, planned=planned, limit=limit))
    if not judged:
        return LotDecision(0, "not_judged", "no piece could be judged; `reason` in scores says why")
    kinds = [(judge.kinds[place], counts) for place, counts in lot]
    return decide_lot(kinds, rate_of(judge.rule.false_share), judge.rule.most_needed)


def _added(counted: pa.Table, keys: list[str]) -> pa.Table:
    """The sums of the other columns by these. A place stands for its lot and day, and is a number while rows are many."""
    places = counted["place"].combine_chunks().dictionary_encode()
    at = counted.column_names.index("place")
    by = ["place", *(key for key in keys if key not in ("place", "lot", "date"))]
    wanted = [(name, "sum") for name in counted.column_names if name not in keys]
    wanted += [(name, "min") for name in keys if name in ("lot", "date")]
    found = counted.set_column(at, "place", places.indices).group_by(by).aggregate(wanted)
    found = found.rename_columns([name.removesuffix("_sum").removesuffix("_min") for name in found.column_names])
    named = places.dictionary.take(found["place"])
    return found.set_column(found.column_names.index("place"), "place", named).select(counted.column_names)
