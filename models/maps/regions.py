"""Regions: the connected areas of an anomaly map above the model's map threshold, in pixels of the stored image.

This file uses only numpy, scipy and scikit-image: the stage that finds regions runs on CPUs and never imports torch.
"""

from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import regionprops

from models.maps.content_box import shown_cells

MAX_REGIONS = 64
"""The most regions kept of one image, those with the highest peaks; the count includes the others."""

EIGHT_CONNECTED = ndimage.generate_binary_structure(2, 2)


Value = TypeVar("Value", bound=np.generic)


class Side(NamedTuple):
    """One side of the model's input, px: its length and the part that shows the image. stored_px: the stored image's side.

    >>> Side(input_px=64, start_px=16, shown_px=32, stored_px=640).cells(8)
    slice(2, 6, None)
    """

    input_px: int
    start_px: int
    shown_px: int
    stored_px: int

    def cells(self, count: int) -> slice:
        """The cells, out of `count` equal ones along the input, that show some of the image."""
        return shown_cells(self.start_px, self.start_px + self.shown_px, self.input_px, count)

    def edges(self, count: int) -> tuple[NDArray[np.int64], int]:
        """Borders of the `cells` in pixels of the stored image, clipped to it: (n + 1,) numerators, and their denominator."""
        shown = self.cells(count)
        borders = np.arange(shown.start, shown.stop + 1) * self.input_px - self.start_px * count
        whole = count * self.shown_px
        return np.clip(borders, 0, whole) * self.stored_px, whole


class Placement(NamedTuple):
    """Where an image lies in the model's input: across (x) and down (y). The map covers the whole input."""

    across: Side
    down: Side

    def shown(self, anomaly_map: NDArray[Value]) -> NDArray[Value]:
        """The part of the map (h, w) whose cells show some of the image: all of it unless the input is padded."""
        height, width = anomaly_map.shape
        return anomaly_map[self.down.cells(height), self.across.cells(width)]


class Region(NamedTuple):
    """One region in pixels of the stored image; pixel i of a side covers i to i + 1. schemas/commit.py has the same fields.

    x0, y0, x1, y1: the smallest box of whole pixels around the region, x1 and y1 exclusive.
    area_px: of the parts of the region's cells that show the image, px^2.
    peak: largest map value.  mass: sum of the map values of the cells; each counts once, whatever its size.
    centroid_x, centroid_y: of the cells' visible parts, each weighted by its area times (value - threshold), px.
    """

    x0: int
    y0: int
    x1: int
    y1: int
    area_px: float
    peak: float
    mass: float
    centroid_x: float
    centroid_y: float


@dataclass(frozen=True)
class Found:
    """regions: those kept, highest peak first.  count: of all regions, also those left out."""

    regions: list[Region]
    count: int


def find_regions(anomaly_map: NDArray[np.float32], threshold: float, placement: Placement) -> Found:
    """The 8-connected components of the cells above (greater than) the threshold, after the padding's cells are cut off.

    Args:
        anomaly_map: (h, w) float32, finite; higher is more anomalous. It may hold negative values.
        threshold: map value; compared as float32.
    Returns:
        At most `MAX_REGIONS` regions, highest peak first; equal peaks are in reading order of their first cells.

    >>> cells = np.zeros((4, 4), np.float32)
    >>> cells[1, 1:3] = 2, 5
    >>> side = Side(input_px=8, start_px=0, shown_px=8, stored_px=16)
    >>> found = find_regions(cells, 1.0, Placement(side, side))
    >>> found.count, found.regions[0].peak, found.regions[0][:4]
    (1, 5.0, (4, 4, 12, 8))
    """
    shown = placement.shown(anomaly_map)
    level = np.float32(threshold)
    labels, count = ndimage.label(shown > level, EIGHT_CONNECTED)
    if not count:
        return Found([], 0)
    peaks = ndimage.maximum(shown, labels, np.arange(1, count + 1))
    highest = np.argsort(-np.asarray(peaks), kind="stable")[:MAX_REGIONS]
    components = regionprops(labels)
    height, width = anomaly_map.shape
    x, y = placement.across.edges(width), placement.down.edges(height)
    return Found([_region(components[i].coords, shown, level, x, y) for i in highest], count)


Edges = tuple[NDArray[np.int64], int]


def _region(cells: NDArray[np.int64], shown: NDArray[np.float32], threshold: np.float32, across: Edges, down: Edges) -> Region:
    """The region of `cells` (n, 2), rows and columns of `shown`."""
    rows, columns = cells.T  # (n,) each
    values = shown[rows, columns].astype(np.float64)
    (left, right), (top, bottom) = _sides(columns, across), _sides(rows, down)
    areas = (right - left) * (bottom - top)
    weights = (values - np.float64(threshold)) * areas
    (x_edges, x_parts), (y_edges, y_parts) = across, down
    return Region(
        x0=int(x_edges[columns.min()] // x_parts),
        y0=int(y_edges[rows.min()] // y_parts),
        x1=int(-(-x_edges[columns.max() + 1] // x_parts)),
        y1=int(-(-y_edges[rows.max() + 1] // y_parts)),
        area_px=float(areas.sum()),
        peak=float(values.max()),
        mass=float(values.sum()),
        centroid_x=float(weights @ (left + right) / (2 * weights.sum())),
        centroid_y=float(weights @ (top + bottom) / (2 * weights.sum())),
    )


def _sides(indices: NDArray[np.int64], edges: Edges) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Start and end of the cells in pixels of the stored image, (n,) each."""
    numerators, denominator = edges
    return numerators[indices] / denominator, numerators[indices + 1] / denominator
