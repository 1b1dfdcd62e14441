"""Stores an anomaly map as one byte per cell, with its own scale and offset."""

import numpy as np

STEPS = 255


def quantise(anomaly_map: np.ndarray) -> tuple[bytes, float, float]:
    """The map as row-major uint8; value = offset + scale * byte, off by at most 1/510 of the map's range.

    Args:
        anomaly_map: (h, w) float32, finite.
    Returns:
        bytes (h * w), scale, offset; both exact in float32. A constant map has scale 0 and comes back exactly.

    >>> cells, scale, offset = quantise(np.array([[0.0, 51.0], [102.0, 255.0]], np.float32))
    >>> list(cells), scale, offset
    ([0, 51, 102, 255], 1.0, 0.0)
    """
    values = np.asarray(anomaly_map, np.float64)
    offset = values.min()
    scale = np.float64(np.float32((values.max() - offset) / STEPS))
    if not scale:
        return bytes(values.size), 0.0, float(offset)
    cells = np.clip(np.rint((values - offset) / scale), 0, STEPS).astype(np.uint8)
    return cells.tobytes(), float(scale), float(offset)


def dequantise(cells: bytes, height: int, width: int, scale: float, offset: float) -> np.ndarray:
    """The (height, width) float32 map that `quantise` got, within its error.

    >>> dequantise(bytes([0, 51, 102, 255]), height=2, width=2, scale=0.5, offset=1.0)
    array([[  1. ,  26.5],
           [ 52. , 128.5]], dtype=float32)
    """
    grid = np.frombuffer(cells, np.uint8).reshape(height, width)  # (h, w)
    return (offset + scale * grid.astype(np.float64)).astype(np.float32)
