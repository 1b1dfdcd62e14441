"""Reads what the drift chart needs of nights from the tables alone: which there are, and what their images look like."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from models.verdicts.night_channels import NightImages
from pipeline.state.ledger import Ledger
from pipeline.state.publications import DataFile
from pipeline.storage.ranged import open_ranged
from pipeline.tables.seen_images import BATCH_ROWS, SEEN, read_columns
from pipeline.verdicts.gathered import Judges, columns
from pipeline.verdicts.judge import Judge
from pipeline.verdicts.shown import drift_groups, shown
from schemas.days import is_day

EMBEDDING_BYTES = 64  # 32 float16
NUMBERS = ("width", "height", "brightness", "contrast", "sharpness")
TYPES = pa.schema([*SEEN, *((name, pa.float64()) for name in NUMBERS)])

Night = tuple[str, str]
"""Group of drift and ISO day."""


@dataclass(frozen=True)
class LookJob:
    """Look for nights in one file of `scores`. first_run: only rows of this scoring run or a later one count."""

    ledger: Ledger
    file: DataFile
    judges: Judges
    first_run: str


@dataclass(frozen=True)
class NightsJob:
    """Read nights of one model within a period. judge: without nights.  scores, maps: the files that may hold their images."""

    ledger: Ledger
    judge: Judge
    nights: tuple[Night, ...]
    scores: tuple[DataFile, ...]
    maps: tuple[DataFile, ...]


class GroupNight(NamedTuple):
    """A night's images that compare with the calibration. places: of all images of the group in that night, sorted."""

    group: str
    date: str
    images: NightImages
    places: tuple[str, ...]


def nights_in(job: LookJob) -> Mapping[tuple[str, Night], int]:
    """The number of rows of each night, by model digest and night; rows without ISO day or group are left out."""
    found: Counter[tuple[str, Night]] = Counter()
    keys = {digest: judge.calibration.keys.by for digest, judge in job.judges.items() if judge.calibration is not None}
    names = dict.fromkeys(name for by in keys.values() for name in by)
    for rows in read_columns(job.ledger.store, "scores", job.file, ("model_digest", "run_id", "date", *names)):
        new = rows.filter(pc.greater_equal(rows["run_id"], job.first_run))
        for digest, by in keys.items():
            mine = new.filter(pc.fill_null(pc.equal(new["model_digest"], digest), False))
            nights = pa.table({"group": drift_groups(mine, by), "date": mine["date"]})
            for row in nights.group_by(["group", "date"]).aggregate([([], "count_all")]).to_pylist():
                if row["group"] is not None and is_day(row["date"] or ""):
                    found[digest, (row["group"], row["date"])] += row["count_all"]
    return found


def read_nights(job: NightsJob) -> list[GroupNight]:
    """The nights in the order of the job. Memory holds a hundred bytes an image, and twice its names to find embeddings."""
    rows = _rows(job)
    judge = job.judge
    assert judge.calibration is not None
    images = shown(rows, judge)
    group = drift_groups(rows, judge.calibration.keys.by)
    numbers = {name: rows[name].to_numpy() for name in NUMBERS}
    size = numbers["width"] * numbers["height"]
    clear = (images.fault == "") & (size > 0) & np.isfinite([*numbers.values()]).all(axis=0)
    embedding = _embeddings(job, rows)
    view = images.view.astype(np.str_) if rows.num_rows else np.array([], np.str_)
    found = []
    for night in job.nights:
        of_group, date = night
        mine = np.asarray(pc.and_(pc.fill_null(pc.equal(group, of_group), False), pc.equal(rows["date"], date)))
        at = mine & clear
        brightness, contrast, sharpness = (numbers[name][at].astype(np.float32) for name in NUMBERS[2:])
        seen = NightImages(view[at], brightness, contrast, sharpness, size[at], images.score[at], embedding[at])
        places = images.place.filter(pa.array(mine)).unique().to_pylist()
        found.append(GroupNight(of_group, date, seen, tuple(sorted(places))))
    return found


def _rows(job: NightsJob) -> pa.Table:
    """The rows of the job's days and model."""
    names = (*columns(job.judge), *NUMBERS, "model_digest", "image_id", "unit_id")
    days = pa.array(sorted({date for _, date in job.nights}))
    tables = [pa.table({name: pa.array([], _type(name)) for name in dict.fromkeys(names)})]
    for file in job.scores:
        for rows in read_columns(job.ledger.store, "scores", file, tuple(dict.fromkeys(names)), TYPES):
            mine = pc.and_(pc.is_in(rows["date"], days), pc.fill_null(pc.equal(rows["model_digest"], job.judge.digest), False))
            tables.append(rows.filter(mine))
    return pa.concat_tables(tables)


def _type(name: str) -> pa.DataType:
    return TYPES.field(name).type if name in TYPES.names else pa.string()


def _embeddings(job: NightsJob, rows: pa.Table) -> NDArray[np.float32]:
    """How far each row's embedding is from 0, where good images lie as features are whitened, (N,); nan without one."""
    keys, lengths = [pa.array([], pa.string())], [np.zeros(0, np.float32)]
    units = sorted(rows["unit_id"].unique().to_pylist())
    for file in job.maps:
        for part in _parts(job, file, units):
            vectors = np.frombuffer(b"".join(part["embedding"].to_pylist()), "<f2").reshape(-1, EMBEDDING_BYTES // 2)  # (n, 32)
            keys.append(_names(part))
            lengths.append(np.linalg.norm(vectors.astype(np.float32), axis=1))
    at = pc.index_in(_names(rows), pa.concat_arrays(keys))
    return pa.array(np.concatenate(lengths)).take(at).cast(pa.float32()).to_numpy(zero_copy_only=False)


def _parts(job: NightsJob, file: DataFile, units: list[str]) -> Iterable[pa.Table]:
    """Rows of these units in a file of `maps` that have an embedding; only row groups that may hold such are read."""
    with open_ranged(job.ledger.store, f"maps/{file.path}") as opened:
        parquet = pq.ParquetFile(opened)
        column = parquet.schema_arrow.names.index("unit_id")
        groups = [at for at in range(parquet.num_row_groups) if _may_hold(parquet.metadata.row_group(at).column(column), units)]
        names = ["image_id", "unit_id", "embedding"]
        for batch in parquet.iter_batches(BATCH_ROWS, row_groups=groups, columns=names):
            part = pa.Table.from_batches([batch])
            has = pc.equal(pc.binary_length(part["embedding"]), EMBEDDING_BYTES)
            yield part.filter(pc.and_(pc.fill_null(has, False), pc.is_in(part["unit_id"].cast(pa.string()), pa.array(units))))


def _may_hold(column: pq.ColumnChunkMetaData, units: list[str]) -> bool:
    stats = column.statistics
    if stats is None or not stats.has_min_max:
        return True
    at = bisect_left(units, stats.min)
    return at < len(units) and units[at] <= stats.max


def _names(rows: pa.Table) -> pa.Array:
    texts = (rows[name].cast(pa.string()) for name in ("unit_id", "image_id"))
    return pc.binary_join_element_wise(*texts, "/").combine_chunks()
