"""Third stage: turns each scored unit into one commit. Runs on CPUs and never imports torch."""

import time

import numpy as np
import pyarrow as pa

from models.maps.quantise import quantise
from models.maps.regions import find_regions
from pipeline.decode.config import DecodeConfig
from pipeline.decode.geometry import placement
from pipeline.stages.config import StageConfig
from pipeline.stages.envelope import explanations_in, maps_in
from pipeline.state.commits import write_commit
from pipeline.state.scoring_config import SCORING_VERSION
from pipeline.storage.objects import StorageError
from schemas import commit as commit_schema
from schemas.envelope import ScoredUnit
from schemas.explanation import EXPLANATION
from schemas.footer import Footer
from schemas.outcome import Outcome


def commit(row: pa.Table, config: StageConfig) -> pa.Table:
    """Write a scored envelope as its commit; returns its outcome."""
    return row if Outcome.is_in(row) else commit_unit(ScoredUnit.of(row), config).table()


def commit_unit(unit: ScoredUnit, config: StageConfig) -> Outcome:
    clock = time.perf_counter()
    label, rows = unit.label, commit_rows(unit, config.scoring.decode)
    errors = rows.num_rows - rows["error"].null_count
    scored = rows.num_rows - errors
    footer = Footer(
        slice=config.slice,
        scored=scored,
        errors=errors,
        scoring_version=SCORING_VERSION,
        seconds=unit.seconds._replace(commit=time.perf_counter() - clock),
        **unit.scored_on._asdict(),
        **label._asdict(),
    )
    try:
        new = write_commit(config.ledger.store, config.ledger.commit_key(config.slice, label.number, label.part), rows, footer)
    except StorageError as error:
        return Outcome(label.number, label.part, message=str(error))
    return Outcome(
        label.number, label.part, scored, errors, new, label.bytes_read, scored_on=str(unit.scored_on) if new else None
    )


def commit_rows(unit: ScoredUnit, decode: DecodeConfig) -> pa.Table:
    """schemas/commit.py rows of a scored unit; a score or map that is not finite becomes an error row.

    Regions come from the scored map, before it is quantised.
    """
    rows, results, threshold = unit.rows, unit.results, unit.map_threshold
    count = rows.num_rows
    failed = np.asarray(rows["error"].is_valid())
    columns: dict[str, list] = {name: [None] * count for name in commit_schema.SCHEMA.names if name not in rows.column_names}
    faults = {name: rows[name].to_pylist() for name in ("stage", "error", "message")}
    if results is not None:
        sizes = list(zip(rows["width"].to_pylist(), rows["height"].to_pylist(), strict=True))
        finite = np.frombuffer(results.finite, bool)
        scores = np.frombuffer(results.scores, np.float32)
        maps = maps_in(results)
        explanations = explanations_in(results, maps)
        embeddings = np.frombuffer(results.embeddings, np.float16).reshape(count, -1)  # (N, 32)
        for i in np.flatnonzero(~failed).tolist():
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
                    packed = (*quantise(explanations[i]), results.explanation_method)
                    for column, cell in zip(EXPLANATION, packed, strict=True):
                        columns[column.name][i] = cell
    arrays = {name: pa.array(cells, commit_schema.SCHEMA.field(name).type) for name, cells in {**columns, **faults}.items()}
    return pa.table(
        {name: arrays.get(name, rows[name] if name in rows.column_names else None) for name in commit_schema.SCHEMA.names}
    )
