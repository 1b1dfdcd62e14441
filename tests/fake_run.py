"""Makes plan slices and commits like a scoring run's, without a model, as input of finalize and all later steps."""

import hashlib
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from models.maps.quantise import quantise
from models.maps.regions import find_regions
from pipeline.decode.config import DecodeConfig
from pipeline.decode.geometry import placement
from pipeline.decode.unit import decode_unit
from pipeline.input import registry
from pipeline.input.config import SourceConfig, Start
from pipeline.input.identity import image_id
from pipeline.state.commits import write_commit
from pipeline.state.plan import UNITS_PER_ROW_GROUP, SliceCounts, plan_slice, units
from pipeline.state.run_state import RunState
from pipeline.state.scoring_config import ScoringConfig
from pipeline.state.state_file import WRITING
from pipeline.storage.store import open_store
from pipeline.tables.run_row import RunInfo
from schemas import commit
from schemas.footer import Footer, StageSeconds
from schemas.plan import SCHEMA, PlannedObject, Unit, unit_table

MODEL, DIGEST, RUN = "tiles", "d" * 64, "run1"
CAPTURED = datetime(2026, 1, 2, 3, 4, 5, 123456, tzinfo=UTC)


def scored(name: str, score: float, uri: str | None = None, **columns) -> dict:
    """A commit row of an image with a score, a map and one region; it counts the `regions` in `columns`."""
    uri = uri or f"s3://line/{name}"
    seed = int(hashlib.sha256(f"{name}{score}".encode()).hexdigest()[:8], 16)
    anomaly_map = np.random.default_rng(seed).gamma(2.0, 0.5, (6, 8)).astype(np.float32)
    cells, scale, offset = quantise(anomaly_map)
    region = {
        "centroid_x": 15.0,
        "centroid_y": 20.0,
        "x0": 1,
        "y0": 2,
        "x1": 30,
        "y1": 40,
        "area_px": 9.5,
        "peak": 3.5,
        "mass": 12.0,
    }
    regions = columns.get("regions", [region])
    return {
        **_identity(name, uri),
        "content_hash": hashlib.sha256(name.encode()).hexdigest()[:32],
        "bytes": 1000 + len(name),
        "width": 120,
        "height": 90,
        "captured_at": CAPTURED,
        "brightness": 100.0,
        "contrast": 20.0,
        "sharpness": 5.0,
        "score": score,
        "map": cells,
        "map_height": 6,
        "map_width": 8,
        "map_scale": scale,
        "map_offset": offset,
        "embedding": np.arange(32, dtype=np.float16).tobytes(),
        "regions": regions,
        "region_count": None if regions is None else len(regions),
        **columns,
    }


def failed(name: str, error: str = "truncated", uri: str | None = None, **columns) -> dict:
    """A commit row of an image that could not be read."""
    uri = uri or f"s3://line/{name}"
    fault = {"stage": "decode", "error": error, "message": f"{name} ends early", "byte_offset": 17}
    return {**_identity(name, uri), **fault, **columns}


def _identity(name: str, uri: str) -> dict:
    member = None if uri.endswith(name) else name
    keys = [("line", "7"), ("product", "tile")]
    return {"image_id": image_id(uri, member), "uri": uri, "member": member, "key": name, "keys": keys, "lot": "lot1"}


def write_slice(
    output_uri: str,
    content: list[tuple[str, list[dict]]],
    run_id: str = RUN,
    number: int = 0,
    skip: tuple[int, ...] = (),
    streams: dict[int, int] | None = None,
    ignored: int = 0,
) -> None:
    """Seal a slice and commit its units.

    Args:
        content: date and commit rows of each unit.
        skip: numbers of units that get no commit.
        streams: for each unit that is a tar stream, the number of images per part.
        ignored: the number of ignored members in each commit.
    """
    state, streams = RunState(str(output_uri), run_id), streams or {}
    planned = [
        Unit(
            number=i,
            unit_id=unit_id(run_id, number, i),
            source="tar" if i in streams else "files",
            date=date,
            objects=tuple(PlannedObject(row["key"], 10, "e") for row in rows),
            images=None if i in streams else len(rows),
            size=10 * len(rows),
        )
        for i, (date, rows) in enumerate(content)
    ]
    sink = pa.BufferOutputStream()
    counts = SliceCounts(len(planned), sum(unit.images or 0 for unit in planned), len(streams), 0, ignored=3)
    with pq.ParquetWriter(sink, SCHEMA, store_schema=False, **WRITING) as writer:
        writer.write_table(unit_table(planned), row_group_size=UNITS_PER_ROW_GROUP)
        writer.add_key_value_metadata(counts.footer())
    state.store.put_new(state.slice_key(number), sink.getvalue().to_pybytes())
    for i, (date, rows) in enumerate(content):
        size = streams.get(i, max(1, len(rows)))
        parts = [rows[start : start + size] for start in range(0, max(1, len(rows)), size)]
        for part, images in enumerate(parts):
            if i not in skip:
                _commit(state, number, i, part, date, images, part == len(parts) - 1, ignored)


def _commit(
    state: RunState, number: int, unit: int, part: int, date: str, images: list[dict], last: bool, ignored: int
) -> None:
    rows = [{"position": position, **image} for position, image in enumerate(images)]
    errors = sum(row.get("error") is not None for row in rows)
    footer = Footer(
        unit_id=unit_id(state.run_id, number, unit, part),
        slice=number,
        number=unit,
        part=part,
        date=date,
        scored=len(rows) - errors,
        errors=errors,
        next_offset=None if last else 512 * (part + 1),
        device="cpu-float32",
        bytes_read=100 * len(rows),
        ignored=ignored,
        seconds=StageSeconds(read=0.25, decode=0.5, score=1.0, wait=0.5),
    )
    write_commit(state.store, state.commit_key(number, unit, part), pa.Table.from_pylist(rows, commit.SCHEMA), footer)


def unit_id(run_id: str, number: int, unit: int, part: int = 0) -> str:
    return hashlib.sha256(f"{run_id}/{number}/{unit}/{part}".encode()).hexdigest()[:32]


def info(**changes) -> RunInfo:
    """The run as the driver describes it."""
    known = {
        "run_id": RUN,
        "slice": 0,
        "model": MODEL,
        "model_digest": DIGEST,
        "config": {"model": MODEL, "decode": {"height": 48, "width": 64, "resize": "squash"}},
        "code_version": "0.1.0",
        "ignored": 3,
        "attempts": 1,
        "started_at": datetime(2026, 1, 3, tzinfo=UTC),
        "max_error_share": 0.5,
        "key_columns": ("line", "product"),
        "spent_s": 12.5,
    }
    return RunInfo(**{**known, **changes})


def score_without_model(
    input_uri: str, output_uri: str, run_id: str = "pictures", map_threshold: float | None = None, **source
) -> RunInfo:
    """Plan, read and decode a real input as a scoring run does; the committed map and score are distances from mean grey."""
    config = ScoringConfig(
        model=MODEL,
        model_digest=DIGEST,
        source=SourceConfig(input_uri=str(input_uri), **source),
        decode=DecodeConfig(height=48, width=64, resize="pad"),
    )
    state = RunState(str(output_uri), run_id)
    state.claim(config)
    number = plan_slice(state, config, open_store(config.source.input_uri))
    for unit in list(units(state, number)):
        pieces = list(registry.source(unit.source).read(unit, open_store(str(input_uri)), config.source, Start()))
        for part, piece in enumerate(pieces):
            decoded = decode_unit(piece.table, config.decode)
            rows = decoded.table.to_pylist()
            for row, pixels in zip(rows, decoded.pixels, strict=True):
                if row["error"] is None:
                    grey = pixels.mean(axis=2, dtype=np.float32)
                    cells = np.abs(grey - grey.mean()).reshape(12, 4, 16, 4).max(axis=(1, 3))  # (12, 16)
                    row["map"], row["map_scale"], row["map_offset"] = quantise(cells)
                    row |= {"score": float(cells.max()), "map_height": 12, "map_width": 16}
                    if map_threshold is not None:
                        found = find_regions(cells, map_threshold, placement((row["width"], row["height"]), config.decode))
                        row |= {"regions": [region._asdict() for region in found.regions], "region_count": found.count}
            _commit(state, number, unit.number, part, unit.date, rows, piece is pieces[-1], piece.ignored)
    return info(run_id=run_id, slice=number, config=config.model_dump(mode="json"))
