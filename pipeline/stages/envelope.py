"""Packs a scorer's results of a unit for the commit stage (schemas/envelope.py), which reads them in place."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from schemas.envelope import Results

if TYPE_CHECKING:
    from pipeline.scoring.scorer import UnitScores


def pack_results(scores: "UnitScores", finite: np.ndarray, explanation_method: str | None) -> Results:
    """Args:
    finite: (N,) bool.
    explanation_method: None when no explanation was asked for.
    """
    packed = Results(
        scores=_packed([scores.score]),
        finite=_packed([finite]),
        embeddings=_packed([scores.embedding]),
        maps=_packed(scores.anomaly_map),
        map_sides=[side for cells in scores.anomaly_map for side in cells.shape],
    )
    if explanation_method is None:
        return packed
    return packed._replace(
        explained=_packed([np.array(list(scores.explanations), np.int64)]),
        explanations=_packed(scores.explanations.values()),
        explanation_method=explanation_method,
    )


def maps_in(results: Results) -> list[np.ndarray]:
    """The maps, N of (h, w) float32."""
    shapes = list(zip(results.map_sides[::2], results.map_sides[1::2], strict=True))
    return _cut(np.frombuffer(results.maps, np.float32), shapes)


def explanations_in(results: Results, maps: Sequence[np.ndarray]) -> dict[int, np.ndarray]:
    """The explanations, (h, w) float32, by position; each has the shape of its image's map."""
    if results.explained is None or results.explanations is None:
        return {}
    assert results.explanations is not None
    positions = np.frombuffer(results.explained, np.int64).tolist()
    cells = np.frombuffer(results.explanations, np.float32)
    return dict(zip(positions, _cut(cells, [maps[position].shape for position in positions]), strict=True))


def _packed(arrays: Iterable[np.ndarray]) -> pa.Buffer:
    """The arrays' bytes, one array after the other."""
    return pa.py_buffer(b"".join(np.ascontiguousarray(array).data for array in arrays))


def _cut(cells: np.ndarray, shapes: Sequence[tuple[int, ...]]) -> list[np.ndarray]:
    ends = np.cumsum([0] + [height * width for height, width in shapes])
    return [cells[start : start + h * w].reshape(h, w) for start, (h, w) in zip(ends[:-1], shapes, strict=True)]  # (h, w)
