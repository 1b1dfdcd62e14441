"""Facts for the report of one scoring run: counts, distribution and worst images, computed in SQL over the tables."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import duckdb
import pyarrow as pa

from pipeline.report.pictures import Box, StoredMap
from schemas import scores

BINS = 60
DAYS = 31
EXAMPLES = 3
STAGES = ("read", "decode", "copy", "score", "commit")
IDLE = {"wait": "waiting for images", "load": "loading the model", "host": "packing and unpacking"}  # by cause
QUANTILES = (0.5, 0.9, 0.99, 0.999)


class NoSuchRun(ValueError):
    """No finished scoring run fits the request."""


@dataclass(frozen=True)
class RunFacts:
    """A run's row of the runs table. idle_seconds: idle seconds of the devices, by cause."""

    run_id: str
    model: str
    model_digest: str
    config: dict[str, Any]
    artifact: dict[str, Any] | None
    code_version: str
    planned: int
    scored: int
    quarantined: int
    ignored: int
    attempts: int
    bytes_read: int
    stage_seconds: dict[str, float]
    idle_seconds: dict[str, float]
    started_at: datetime | None
    finished_at: datetime
    spent_s: float
    devices: tuple[str, ...]

    @property
    def images_per_s(self) -> float | None:
        return self.scored / self.spent_s if self.spent_s else None

    @property
    def device_shares(self) -> dict[str, float]:
        """Shares of the time from a device's start to its last image: computing, and idle by cause, largest first; sum 1."""
        seconds = {"computing": self.stage_seconds.get("score", 0.0)} | self.idle_seconds
        total = sum(seconds.values())
        idle = sorted(self.idle_seconds, key=lambda cause: -seconds[cause])
        return {name: seconds[name] / total for name in ("computing", *idle)} if idle and total else {}


@dataclass(frozen=True)
class Histogram:
    """Counts of scores in equal bins from `low` to `high`, and some quantiles by share."""

    low: float
    high: float
    counts: tuple[int, ...]
    quantiles: dict[float, float]


@dataclass(frozen=True)
class WorstImage:
    """One row of scores with its map; keys are the values of the key columns.

    piece: None if the image is a piece.  rank, n_calibration, piece_p, verdict, reason: of its piece.  p_value: its own.
    regions: their number; None when they were not computed.  boxes: those of regions in the tables, highest peak first.
    """

    image_id: str
    uri: str
    member: str | None
    content_hash: str | None
    width: int
    height: int
    score: float
    lot: str | None
    date: str
    piece: str | None
    view: str | None
    rank: int | None
    n_calibration: int | None
    p_value: float | None
    piece_p: float | None
    verdict: str
    reason: str | None
    regions: int | None
    keys: dict[str, str]
    map: StoredMap | None
    boxes: tuple[Box, ...]


@dataclass(frozen=True)
class Reason:
    """Why images could not be scored; examples are (uri, member, message)."""

    stage: str
    error: str
    images: int
    examples: tuple[tuple[str, str | None, str | None], ...]


@dataclass(frozen=True)
class Day:
    """One production day of the run."""

    date: str
    scored: int
    quarantined: int
    median: float | None
    p99: float | None
    highest: float | None


def choose_run(connection: duckdb.DuckDBPyConnection, run_id: str | None = None, model: str | None = None) -> str:
    """The id of the requested run, or of the one that finished last.

    Raises:
        NoSuchRun: names the existing runs.
    """
    found = connection.execute(
        "select run_id from runs where run_id = coalesce($run_id, run_id) and model = coalesce($model, model) "
        "order by finished_at desc limit 1",
        {"run_id": run_id, "model": model},
    ).fetchall()
    if found:
        return found[0][0]
    known = connection.execute("select distinct run_id, model from runs order by all limit 20").fetchall()
    listed = "; ".join(f"{each} of model {of_model}" for each, of_model in known) or "none is finished"
    raise NoSuchRun(
        f"scoring run must be a finished one; got run {run_id or 'any'} of model {model or 'any'}. There are: {listed}"
    )


def run_facts(connection: duckdb.DuckDBPyConnection, run_id: str) -> RunFacts:
    """Facts of a published run."""
    (row,) = _rows(connection, "select * from runs where run_id = $run_id", run_id=run_id)
    seconds = json.loads(row["stage_seconds"])
    devices = connection.execute("select distinct device from scores where run_id = ? order by all", [run_id]).fetchall()
    same = ("run_id", "model", "model_digest", "code_version", "planned", "scored", "quarantined")
    more = ("ignored", "attempts", "bytes_read", "started_at", "finished_at", "spent_s")
    return RunFacts(
        **{name: row[name] for name in (*same, *more)},
        config=json.loads(row["config"]),
        artifact=json.loads(row["artifact"]) if row["artifact"] else None,
        stage_seconds={stage: spent for stage, spent in seconds.items() if spent and stage not in IDLE},
        idle_seconds={text: seconds[cause] for cause, text in IDLE.items() if seconds[cause]},
        devices=tuple(device for (device,) in devices if device),
    )


def histogram(connection: duckdb.DuckDBPyConnection, run_id: str) -> Histogram | None:
    """The distribution of the run's scores; None when it has none in the tables."""
    (row,) = connection.execute(
        f"select min(score), max(score), approx_quantile(score, {list(QUANTILES)}) from scores where run_id = ?", [run_id]
    ).fetchall()
    low, high, quantiles = row
    if low is None:
        return None
    width = (high - low) / BINS or 1.0
    bins = connection.execute(
        f"select least({BINS - 1}, floor((score - $low) / $width))::int as bin, count(*) from scores "
        "where run_id = $run_id group by bin",
        {"low": low, "width": width, "run_id": run_id},
    ).fetchall()
    counts = dict(bins)
    return Histogram(low, high, tuple(counts.get(i, 0) for i in range(BINS)), dict(zip(QUANTILES, quantiles, strict=True)))


def worst_images(connection: duckdb.DuckDBPyConnection, run_id: str, count: int) -> list[WorstImage]:
    """The run's most unusual images: by their own p-value, and by score where that is the same, or where there is none."""
    order, scored = "p_value nulls last, score desc, image_id", complete(connection, "scores", scores.SCHEMA)
    query = f"select * from {scored} where run_id = $run_id order by {order} limit $count"
    rows = _rows(connection, query, run_id=run_id, count=count)
    here = "where date in $dates and unit_id in $units and image_id in $images"
    named = {
        "dates": sorted({row["date"] for row in rows}),
        "units": sorted({row["unit_id"] for row in rows}),
        "images": [row["image_id"] for row in rows],
    }
    found = connection.execute(
        f"select image_id, map, map_height, map_width, map_scale, map_offset from maps {here}", named
    ).fetchall()
    maps = {image_id: StoredMap(*stored) for image_id, *stored in found}
    boxes: dict[str, tuple[Box, ...]] = {}
    for image_id, *box in connection.execute(
        f"select image_id, x0, y0, x1, y1 from regions {here} order by image_id, region", named
    ).fetchall():
        boxes[image_id] = (*boxes.get(image_id, ()), Box(*box))
    plain = ("image_id", "uri", "member", "content_hash", "width", "height", "score", "lot", "date", "regions", "piece", "view")
    judged = ("rank", "n_calibration", "p_value", "piece_p", "verdict", "reason")
    return [
        WorstImage(
            **{name: row[name] for name in (*plain, *judged)},
            keys={name: text for name, text in row.items() if name not in scores.SCHEMA.names and isinstance(text, str)},
            map=maps.get(row["image_id"]),
            boxes=boxes.get(row["image_id"], ()),
        )
        for row in rows
    ]


def reasons(connection: duckdb.DuckDBPyConnection, run_id: str) -> list[Reason]:
    """The run's errors by stage and reason, the most frequent first, with a few examples each."""
    rows = connection.execute(
        "select stage, error, count(*) as images from errors where run_id = ? group by all order by images desc, stage, error",
        [run_id],
    ).fetchall()
    examples = connection.execute(
        "select stage, error, uri, member, message from errors where run_id = ? "
        f"qualify row_number() over (partition by stage, error order by uri, member) <= {EXAMPLES} order by uri, member",
        [run_id],
    ).fetchall()
    return [
        Reason(stage, error, images, tuple(tuple(rest) for s, e, *rest in examples if (s, e) == (stage, error)))
        for stage, error, images in rows
    ]


def days(connection: duckdb.DuckDBPyConnection, run_id: str) -> list[Day]:
    """The run's latest production days, latest first."""
    rows = connection.execute(
        "select coalesce(s.date, e.date) as date, coalesce(scored, 0), coalesce(quarantined, 0), median, p99, highest "
        "from (select date, count(*) as scored, approx_quantile(score, 0.5) as median, approx_quantile(score, 0.99) as p99, "
        "max(score) as highest from scores where run_id = $run_id group by date) s full join "
        "(select date, count(*) as quarantined from errors where run_id = $run_id group by date) e on s.date = e.date "
        f"order by date desc limit {DAYS}",
        {"run_id": run_id},
    ).fetchall()
    return [Day(*row) for row in rows]


def complete(connection: duckdb.DuckDBPyConnection, table: str, schema: pa.Schema) -> str:
    """The table in SQL, with null for columns that it lacks, since an earlier version of flowscore has written it last."""
    have = connection.view(table).columns
    lacking = "".join(f", null as {name}" for name in schema.names if name not in have)
    return f"(select *{lacking} from {table})" if lacking else table


def _rows(connection: duckdb.DuckDBPyConnection, query: str, **parameters: object) -> list[dict[str, Any]]:
    return connection.sql(query, params=parameters).to_arrow_table().to_pylist()
