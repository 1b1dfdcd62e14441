"""What verdicts need of other images: jobs look at their own rows, the driver puts it together and hands back what each needs.

Where an image is a piece, a job hands over counts alone. Where several images may show a piece, it hands over the few columns
that tell which, about 100 bytes an image, since a piece may lie in several jobs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.verdicts.judge import Judge
from pipeline.verdicts.lots import PIECES, Lot, LotCounts, added, decide, image_counts, piece_counts, q_of_places
from pipeline.verdicts.pieces import as_table, codes, flag_by_night, judge_pieces, nights_of
from pipeline.verdicts.review_budget import Tops, thresholds, tops
from pipeline.verdicts.shown import COLUMNS, ORDER, places, shown


class Part(NamedTuple):
    """What a job has seen of the images of one model. counts: of pieces only where an image is one.  rows: otherwise.

    tops: with a review budget, where an image is a piece.
    """

    digest: str
    counts: LotCounts
    rows: pa.Table | None
    tops: Tops = {}


class Known(NamedTuple):
    """What the verdicts of some rows of one model depend on besides these rows.

    pieces: PIECES of the pieces that they show; None where an image is a piece.  q: `lots.decide`'s, of their lots.
    """

    judge: Judge
    pieces: pa.Table | None
    q: pa.Table


class Gathered(NamedTuple):
    """known: for each part.  lots: by place.  thresholds: of nights that had none yet, with a review budget."""

    known: list[Known]
    lots: dict[str, Lot]
    thresholds: dict[str, float]


Judges = Mapping[str, Judge]
"""By model digest."""
Parts = Mapping[str, Part]
"""By model digest."""
Verdicts = Mapping[str, Known]
"""By model digest."""


def columns(judge: Judge) -> tuple[str, ...]:
    """Columns of images that `part_of` and `verdict_columns` read, besides `model_digest`."""
    return tuple(dict.fromkeys((*COLUMNS, *judge.key_names, *(ORDER if judge.by_piece else ()))))


def part_of(rows: pa.Table, judge: Judge) -> Part:
    """What these images say.

    Args:
        rows: of the judge's model, with `columns(judge)`; score null where an image could not be read.
    """
    images = shown(rows, judge)
    if judge.by_piece:
        counts = LotCounts(image_counts(rows, images), PIECES.empty_table())
        return Part(judge.digest, counts, rows.select(list(columns(judge))).combine_chunks())
    code = codes(images, judge)
    judged = judge_pieces(images, code, judge)
    counts = LotCounts(image_counts(rows, images), piece_counts(images, code, judged))
    budget = judge.rule.review_budget
    return Part(judge.digest, counts, None, {} if budget is None else tops(judged, images.night, budget))


def places_of(part: Part) -> set[str]:
    """The places of its lots."""
    return set(part.counts.images["place"].to_pylist())


def places_without_lot(part: Part) -> set[str]:
    """The places of its images of no lot, where several of them may show a piece."""
    if part.rows is None:
        return set()
    rows = part.rows.filter(pc.is_null(part.rows["lot"]))
    return set(places(rows["lot"], rows["date"], part.digest).to_pylist())


def gather(parts: Sequence[Part], judge: Judge) -> Gathered:
    """Put the parts of one model together: all images of every lot, and of every piece, that is in one of them."""
    if not parts:
        return Gathered([], {}, {})
    counts, pieces = added(part.counts for part in parts), [None] * len(parts)
    if judge.by_piece:
        rows = pa.concat_tables([part.rows for part in parts if part.rows is not None])
        images = shown(rows, judge)
        code = codes(images, judge)
        judged, nights = judge_pieces(images, code, judge), nights_of(images, code)
        counts = LotCounts(counts.images, piece_counts(images, code, judged))
        budget = judge.rule.review_budget
        judge, new = _with_thresholds(judge, [] if budget is None else [tops(judged, nights, budget)])
        flag_by_night(judged, nights, judge.thresholds)
        whole = as_table(images, code, judged)
        ends = np.cumsum([0 if part.rows is None else part.rows.num_rows for part in parts])
        pieces = [whole.take(pa.array(np.unique(mine))) for mine in np.split(code, ends[:-1])]
    else:
        judge, new = _with_thresholds(judge, [part.tops for part in parts])
    decided = decide(counts, dict.fromkeys(counts.images["place"].to_pylist(), judge))
    known = [
        Known(judge, of_part, q_of_places(decided.q, places_of(part))) for part, of_part in zip(parts, pieces, strict=True)
    ]
    return Gathered(known, decided.lots, new)


def _with_thresholds(judge: Judge, of: Sequence[Tops]) -> tuple[Judge, dict[str, float]]:
    """The judge with the thresholds of nights that had none yet, and these; with a review budget only."""
    if judge.rule.review_budget is None:
        return judge, {}
    found = thresholds(of, judge.rule.review_budget)
    new = {night: threshold for night, threshold in found.items() if night not in judge.thresholds}
    return replace(judge, thresholds={**judge.thresholds, **new}), new


class JudgedParts(NamedTuple):
    """verdicts: on each of the parts, by model.  lots: by place.  thresholds: of nights that had none yet, by model."""

    verdicts: list[dict[str, Known]]
    lots: dict[str, Lot]
    thresholds: dict[str, dict[str, float]]


def judge_parts(parts: Sequence[Parts], judges: Judges) -> JudgedParts:
    """The verdicts on all images that are in one of the parts."""
    found = JudgedParts([{} for _ in parts], {}, {})
    for digest, judge in judges.items():
        having = [(at, of_part[digest]) for at, of_part in enumerate(parts) if digest in of_part]
        gathered = gather([part for _, part in having], judge)
        found.lots.update(gathered.lots)
        found.thresholds[digest] = gathered.thresholds
        for (at, _), known in zip(having, gathered.known, strict=True):
            found.verdicts[at][digest] = known
    return found
