"""Counts of lots, which can be added up over jobs, and the verdicts that follow from them."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

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

IMAGES = ["place", "lot", "date", "suspended", "watched"]
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
    """images: by place and what drift says, with lot, date, the number of images and of those that could not be read.
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
            "suspended": pa.array(images.suspended, pa.string()),
            "watched": pa.array(images.watched, pa.string()),
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
    for place, rows in _by_place(counts.images):
        planned, unreadable = (sum(row[name] for row in rows) for name in ("planned", "unreadable"))
        suspended, watched = ("; ".join(sorted({row[name] for row in rows} - {""})) for name in ("suspended", "watched"))
        decision = _decision(kinds.get(place, []), judge_of[place], planned, unreadable, suspended)
        if watched and decision.state == "ok":
            decision = decision._replace(state="watch", reason=f"{decision.reason}; {watched}")
        found[place] = Lot(rows[0]["lot"], rows[0]["date"], planned, unreadable, of_place.get(place, 0), decision)
    return Lots(found, pa.concat_tables(q).combine_chunks())


def q_values(q: pa.Table, place: pa.Array, group: pa.Array, number: pa.Array, rank: pa.Array) -> pa.Array:
    """The q-value of pieces, (P,), float64; null for those that count for no lot.

    Args:
        q: `Lots.q`.
        rank: null for pieces that do not count.
    """
    keys = _joined(place, group, number, rank)
    return q["q"].combine_chunks().take(pc.index_in(keys, _joined(*(q[name] for name in _Q.names[:-1]))))


def _joined(place: pa.Array, *numbers: pa.Array) -> pa.Array:
    found = pc.binary_join_element_wise(place, *(column.cast(pa.string()) for column in numbers), "\n")
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


def _by_place(images: pa.Table) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    rows = sorted(images.to_pylist(), key=itemgetter("place"))
    for place, mine in groupby(rows, itemgetter("place")):
        yield place, list(mine)


def _decision(
    lot: list[tuple[tuple[int, int], RankCounts]], judge: Judge, planned: int, unreadable: int, suspended: str
) -> LotDecision:
    """suspended: why drift leaves images of the lot without a verdict, "" for none. Such a lot is never ok."""
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


def _added(counted: pa.Table, keys: list[str]) -> pa.Table:
    sums = [name for name in counted.column_names if name not in keys]
    found = counted.group_by(keys).aggregate([(name, "sum") for name in sums])
    return found.rename_columns([name.removesuffix("_sum") for name in found.column_names])
