"""Third stage: scored units in, one commit each out. Runs on CPUs and never imports torch."""

import json
import time

import numpy as np
import pyarrow as pa

from models.maps.quantise import quantise
from models.maps.regions import find_regions
from pipeline.decode.config import DecodeConfig
from pipeline.decode.geometry import placement
from pipeline.scoring.idle import CAUSES
from pipeline.stages.config import StageConfig
from pipeline.stages.envelope import nothing_to_score, unpack, unpack_explanations, unpack_maps
from pipeline.state.commits import write_commit
from pipeline.storage.objects import StorageError
from schemas import commit as commit_schema
from schemas.explanation import EXPLANATION


def commit(unit: pa.Table, config: StageConfig) -> pa.Table:
    """Write a scored envelope as its commit; returns its counts (number, part, scored, errors, new, bytes_read, message)."""
    if nothing_to_score(unit):
        known = {name: unit[name][0].as_py() for name in ("message", "scored", "errors") if name in unit.column_names}
        return _outcome(unit, **known)
    clock = time.perf_counter()
    rows = commit_rows(unit, config.scoring.decode)
    number, part = unit["number"][0].as_py(), unit["part"][0].as_py()
    errors = rows.num_rows - rows["error"].null_count
    seconds = {stage: unit[f"{stage}_s"][0].as_py() for stage in ("read", "decode", "copy", "score", *CAUSES)}
    footer = {
        "version": str(commit_schema.VERSION),
        "unit_id": unit["unit_id"][0].as_py(),
        "slice": str(config.slice),
        "number": str(number),
        "part": str(part),
        "date": unit["date"][0].as_py(),
        "scored": str(rows.num_rows - errors),
        "errors": str(errors),
        "next_offset": unit["next_offset"][0].as_py(),
        "device": unit["device"][0].as_py(),
        "bytes_read": str(unit["bytes_read"][0].as_py()),
        "ignored": str(unit["ignored"][0].as_py()),
        "seconds": json.dumps({**seconds, "commit": time.perf_counter() - clock}),
    }
    try:
        new = write_commit(config.state.store, config.state.commit_key(config.slice, number, part), rows, footer)
    except StorageError as error:
        return _outcome(unit, message=str(error))
    return _outcome(unit, scored=rows.num_rows - errors, errors=errors, new=new, bytes_read=unit["bytes_read"][0].as_py())


def commit_rows(unit: pa.Table, decode: DecodeConfig) -> pa.Table:
    """schemas/commit.py rows of a scored envelope; a score or map that is not finite becomes an error row.

    Regions are those of the map as it was scored, before it is quantised.
    """
    rows = unpack(unit["rows"][0])
    count = rows.num_rows
    failed = np.asarray(rows["error"].is_valid())
    columns: dict[str, list] = {name: [None] * count for name in commit_schema.SCHEMA.names if name not in rows.column_names}
    faults = {name: rows[name].to_pylist() for name in ("stage", "error", "message")}
    if "scores" in unit.column_names:
        threshold = unit["map_threshold"][0].as_py()
        sizes = list(zip(rows["width"].to_pylist(), rows["height"].to_pylist(), strict=True))
        finite = np.frombuffer(unit["finite"][0].as_buffer(), bool)
        scores = np.frombuffer(unit["scores"][0].as_buffer(), np.float32)
        maps = unpack_maps(unit, count)
        explanations = unpack_explanations(unit, maps)
        embeddings = np.frombuffer(unit["embeddings"][0].as_buffer(), np.float16).reshape(count, -1)  # (N, 32)
        for i in np.flatnonzero(~failed):
            if not finite[i]:
                faults["stage"][i], faults["error"][i] = "score", "not_finite"
                faults["message"][i] = f"the model gave a score or map that is not a finite number (score {scores[i]})"
                continue
            columns["score"][i] = scores[i]
            columns["map"][i], columns["map_scale"][i], columns["map_offset"][i] = quantise(maps[i])
            columns["map_height"][i], columns["map_width"][i] = maps[i].shape
            columns["embedding"][i] = embeddings[i].tobytes()
            if threshold is not None:
                found = find_regions(maps[i], threshold, placement(sizes[i], decode))
                columns["regions"][i], columns["region_count"][i] = [r._asdict() for r in found.regions], found.count
                if found.count and i in explanations:
                    packed = (*quantise(explanations[i]), unit["explanation_method"][0].as_py())
                    for column, cell in zip(EXPLANATION, packed, strict=True):
                        columns[column.name][i] = cell
    arrays = {name: pa.array(cells, commit_schema.SCHEMA.field(name).type) for name, cells in {**columns, **faults}.items()}
    return pa.table(
        {name: arrays.get(name, rows[name] if name in rows.column_names else None) for name in commit_schema.SCHEMA.names}
    )


def _outcome(
    unit: pa.Table, scored: int = 0, errors: int = 0, new: bool = False, bytes_read: int = 0, message: str | None = None
) -> pa.Table:
    return pa.table(
        {
            "number": [unit["number"][0].as_py()],
            "part": [unit["part"][0].as_py()],
            "scored": [scored],
            "errors": [errors],
            "new": [new],
            "bytes_read": [bytes_read],
            "message": pa.array([message], pa.string()),
        }
    )
