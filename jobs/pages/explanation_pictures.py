"""Pictures of explanations that wait until all maps of their method are there, since they share one colour scale."""

from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors.numpy import load_file, save_file

from jobs.pages.explanation_picture import Notice, draw
from models.maps.map_scale import CellCounts
from pipeline.report.pictures import ColourScale

HIGH_PERCENTILE = 99.8  # of the maps' pixels: one pixel of a gradient may be ten times the next


class _Waiting(NamedTuple):
    """A picture's name, and the file of its pixels and its map."""

    name: str
    title: list[str]
    notice: Notice | None
    stored: Path


class ExplanationPictures:
    """Draws on the scale of a calibration, for the methods that have one, and on one of all maps of a method otherwise.

        pictures = ExplanationPictures(scratch, {"anomaly_map": scale})
        pictures.add("gradient", "0.gradient.png", pixels, relevance, title)
        pictures.draw(folder)

    The maps wait on disk, so memory does not grow with the images.
    Args:
        scratch: a folder for the maps until they are drawn.  known: scales by method.
    """

    def __init__(self, scratch: Path, known: dict[str, ColourScale]) -> None:
        self._scratch, self._known = scratch, known
        self._waiting: dict[str, list[_Waiting]] = defaultdict(list)
        self._counts: dict[str, CellCounts] = defaultdict(CellCounts)

    def add(
        self, method: str, name: str, pixels: np.ndarray, relevance: np.ndarray, title: list[str], notice: Notice | None = None
    ) -> None:
        """Args:
        name: of the picture's file.
        pixels: (H, W, 3) uint8. relevance: (H, W) float32, finite. title: three lines; the first is large.
        notice: what stands on the map itself.
        """
        stored = self._scratch / f"{sum(map(len, self._waiting.values()))}.safetensors"
        save_file({"pixels": np.ascontiguousarray(pixels), "relevance": np.ascontiguousarray(relevance)}, stored)
        self._waiting[method].append(_Waiting(name, title, notice, stored))
        if method not in self._known:
            self._counts[method].add(relevance)

    def draw(self, folder: Path) -> dict[str, ColourScale]:
        """Draw all pictures into the folder; returns the scale of each method that has some."""
        scales = {method: self._scale(method) for method in self._waiting}
        for method, waiting in self._waiting.items():
            for one in waiting:
                stored = load_file(one.stored)
                drawn = draw(stored["pixels"], stored["relevance"], one.title, scales[method], one.notice)
                drawn.save(folder / one.name)
                one.stored.unlink()
        return scales

    def _scale(self, method: str) -> ColourScale:
        if method in self._known:
            return self._known[method]
        counts, pictures = self._counts[method], len(self._waiting[method])
        low, high = counts.at(0), counts.at(HIGH_PERCENTILE)
        of = f"{pictures:,} pictures" if pictures > 1 else "picture"
        basis = f"lowest to {HIGH_PERCENTILE} % of the {of} by {method}"
        return ColourScale(low, high if high > low else counts.at(100), basis)
