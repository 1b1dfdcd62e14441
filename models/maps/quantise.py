"""Anomaly maps as one byte a cell with a scale and an offset of their own."""

import numpy as np

STEPS = 255


def quantise(anomaly_map: np.ndarray) -> tuple[bytes, float, float]:
    """The map as row-major uint8; value = offset + scale * byte, off by at most 1/510 of the map's range.

    Args:
        anomaly_map: (h, w) float32, finite.
    Returns:
        bytes (h * w), scale, offset; both exact in float32. A constant map has scale 0 and comes back exactly.
    """
    values = np.asarray(anomaly_map, np.float64)
    offset = values.min()
    scale = np.float64(np.float32((values.max() - offset) / STEPS))
    if not scale:
        return bytes(values.size), 0.0, float(offset)
    cells = np.clip(np.rint((values - offset) / scale), 0, STEPS).astype(np.uint8)
    return cells.tobytes(), float(scale), float(offset)


def dequantise(cells: bytes, height: int, width: int, scale: float, offset: float) -> np.ndarray:
    """The (height, width) float32 map that `quantise` was given, within its error."""
    grid = np.frombuffer(cells, np.uint8).reshape(height, width)  # (h, w)
    return (offset + scale * grid.astype(np.float64)).astype(np.float32)
