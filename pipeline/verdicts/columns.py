"""The columns of `scores` that verdicts fill."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from models.calibration.calibration import Calibration
from models.verdicts.image_p import image_p, image_ranks
from pipeline.verdicts.gathered import Known, Verdicts
from pipeline.verdicts.judge import Judge
from pipeline.verdicts.lots import q_values
from pipeline.verdicts.names import FILLED
from pipeline.verdicts.pieces import PIECES, codes, flag_by_night, judge_pieces, keys_of
from pipeline.verdicts.shown import Shown, places, shown

SAID = PIECES.names[1:]
"""Columns of a piece that its images take over."""


def with_verdicts(rows: pa.Table, verdicts: Verdicts, only: pa.Array | None = None) -> pa.Table:
    """The rows with their verdicts; rows of other models stay as they are.

    Args:
        rows: of `scores`, with FILLED and `gathered.columns` and `model_digest`; key columns that they lack count as null.
        only: places; rows of others stay as they are. None: all rows are judged.
    """
    for digest, known in verdicts.items():
        mine = pc.equal(rows["model_digest"].cast(pa.string()), digest).combine_chunks()
        if only is not None:
            mine = pc.and_(mine, pc.is_in(places(rows["lot"], rows["date"], digest), only))
        if not pc.any(mine).as_py():
            continue
        found = verdict_columns(_with_keys(rows.filter(mine), known.judge), known)
        for name in FILLED:
            place = rows.column_names.index(name)
            old = rows[name].combine_chunks()
            new = pc.replace_with_mask(old, mine, found[name].cast(old.type))
            rows = rows.set_column(place, rows.schema.field(place), new)
    return rows


def _with_keys(rows: pa.Table, judge: Judge) -> pa.Table:
    """The rows with all of the judge's key columns: a ledger's key pattern need not have the fields of a calibration's."""
    for name in judge.key_names:
        if name not in rows.column_names:
            rows = rows.append_column(name, pa.nulls(rows.num_rows, pa.string()))
    return rows


def verdict_columns(rows: pa.Table, known: Known) -> dict[str, pa.Array]:
    """FILLED for rows of one model that all have a score."""
    judge, count = known.judge, rows.num_rows
    images = shown(rows, judge)
    of_image = _of_images(images, known)
    rank, n = of_image["rank"], of_image["n"]
    ranked = pc.greater(rank, 0)
    rank, n = (pc.if_else(mask, values, None) for mask, values in ((ranked, rank), (pc.greater(n, 0), n)))
    reason = of_image["reason"]
    counts = pc.and_(ranked, pc.equal(reason, ""))
    q = q_values(known.q, images.place, of_image["group"], of_image["number"], pc.if_else(counts, rank, None))
    calibration = judge.calibration
    group, view = pa.nulls(count, pa.string()), pa.nulls(count, pa.string())
    if calibration is not None:
        names = pa.array(_group_names(calibration), pa.string())
        group = names.take(pa.array(images.group, mask=images.group < 0))
        if calibration.keys.view is not None:
            view = pa.array(images.view, pa.string())
    return {
        "calibration_digest": pa.repeat(pa.scalar(judge.rule.calibration, pa.string()), count),
        "calibration_group": group,
        "piece": _or_null(images.piece),
        "view": _or_null(view),
        "rank": rank,
        "n_calibration": n,
        "p_value": pa.array(_image_p(images, judge), pa.float64(), from_pandas=True),
        "piece_p": pc.divide(rank.cast(pa.float64()), pc.add(n, 1).cast(pa.float64())),
        "q_value": q,
        "verdict": of_image["verdict"],
        "reason": _or_null(reason),
    }


def _of_images(images: Shown, known: Known) -> dict[str, pa.Array]:
    """What is said of each image's piece, by SAID."""
    if known.pieces is None:
        judged = judge_pieces(images, codes(images, known.judge), known.judge)  # an image is a piece, in the same order
        flag_by_night(judged, images.night, known.judge.thresholds)
        return {name: pa.array(getattr(judged, name)) for name in SAID}
    found = known.pieces.take(pc.index_in(keys_of(images), known.pieces["key"]))
    columns = {name: found[name].combine_chunks() for name in SAID}
    alone = pc.equal(images.piece, "")  # its piece is not known, nor what it compares with
    reason = pc.if_else(alone, pa.array(images.fault, pa.string()), columns["reason"])
    return columns | {"reason": reason, "n": pc.if_else(alone, 0, columns["n"])}


def _image_p(images: Shown, judge: Judge) -> NDArray[np.float64]:
    """Of each image, (N,); nan for one that cannot be compared."""
    p = np.full(len(images.score), np.nan)
    clear = (images.fault == "") & (images.group >= 0)
    for (at, view), calibrated in judge.images.items():
        mine = clear & (images.group == at) & (images.view == view)
        if mine.any():
            p[mine] = image_p(image_ranks(images.score[mine], calibrated), calibrated)
    return p


def _group_names(calibration: Calibration) -> list[str]:
    """In words, by position."""
    by = calibration.keys.by
    named = (", ".join(f"{key}={value}" for key, value in zip(by, group.by, strict=False)) for group in calibration.groups)
    return [name or "all" for name in named]


def _or_null(texts: pa.Array) -> pa.Array:
    return pc.if_else(pc.equal(texts, ""), None, texts)
