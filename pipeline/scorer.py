"""Scores the pixels of one unit, in fixed batch slots, in whatever process owns the device."""

import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from models import artifact, operations
from models.config import ArtifactConfig
from models.detector import Scored
from models.embedding import EMBEDDING_SIZE
from models.explanation_methods import Method
from models.operations import OperationCount
from models.tiling import Mosaic, TileScores, Tiling
from pipeline.decode_tiles import TileBatch


@dataclass(frozen=True)
class UnitScores:
    """What the detector says of a unit's N images, in unit order; rows of images without pixels are undefined.

    score: (N,) float32.  anomaly_map: N of (h, w) float32, all of one size unless scored by tiles.
    embedding: (N, 32) float16.  explanations: by position, of the images that have one, (h, w) float32 on the map's cells.
    device_s: seconds that the device spent on the unit; of a CPU, those of all threads divided by their number.
    """

    score: np.ndarray
    anomaly_map: Sequence[np.ndarray]
    embedding: np.ndarray
    explanations: dict[int, np.ndarray] = field(default_factory=dict)
    device_s: float = 0.0


class BatchScores(NamedTuple):
    """Of n images: score (n,), anomaly_map (n, h, w), embedding (n, 32), explanations by position; seconds of the thread."""

    score: np.ndarray
    anomaly_map: np.ndarray
    embedding: np.ndarray
    explanations: dict[int, np.ndarray]
    seconds: float


class Scorer:
    """A loaded model on its device.

    Every batch has the artifact's batch size: a bad image leaves its slot blank and the last batch is filled up with
    blanks, so that an image's arithmetic depends on its slot only, never on what else could be read.

    On a CPU every thread works on a batch of its own. Threads that share a batch wait for each other, by spinning, in every
    layer: beside one other busy process, two took 2.5 times as long (docs/benchmarks/throughput). Calls may come from several
    threads; their batches take turns.

    threads: of a CPU, None: as many as torch has.
    explain: also explain the images whose map has a cell above the model's map threshold; each takes a few passes forward
    and back in float32. Of an image in tiles those tiles are explained that have such a cell; the others count as 0.
    """

    def __init__(
        self, directory: Path, device: str = "auto", threads: int | None = None, explain: Method | None = None
    ) -> None:
        self.device = resolve_device(device)
        self._at_once = (threads or torch.get_num_threads()) if self.device == "cpu" else 1
        one_each = {"initializer": torch.set_num_threads, "initargs": (1,)} if self.device == "cpu" else {}
        self._pool = ThreadPoolExecutor(self._at_once, "scorer", **one_each)
        opened = artifact.read(directory)
        self.batch_size = opened.config.batch_size
        self.map_threshold = opened.config.map_threshold
        self.label = f"{self.device.split(':')[0]}-{opened.config.precision}"
        self._detector = artifact.load(opened, self.device)
        self.tiling = tiling(opened.config)
        self.explain = explain if self.map_threshold is not None else None
        if self.explain is not None:
            from models.explanation import Explainer  # captum and what it brings take seconds that most runs need not wait

            self._explainer = Explainer(artifact.load(artifact.in_float32(opened), self.device))
            self._explaining = threading.Lock()

    def __call__(self, pixels: np.ndarray) -> UnitScores:
        """Args:
        pixels: (N, H, W, 3) uint8, N > 0; zeros where an image has no pixels.
        """
        starts = range(0, len(pixels), self.batch_size)
        parts = list(self._pool.map(self._batch, (pixels[start : start + self.batch_size] for start in starts)))
        explanations = {
            start + position: cells
            for start, part in zip(starts, parts, strict=True)
            for position, cells in part.explanations.items()
        }
        return UnitScores(
            np.concatenate([part.score for part in parts]),
            np.concatenate([part.anomaly_map for part in parts]),
            np.concatenate([part.embedding for part in parts]),
            explanations,
            sum(part.seconds for part in parts) / self._at_once,
        )

    def by_tiles(self, batches: Iterable[TileBatch], count: int) -> UnitScores:
        """Score the images of a unit of `count` by their tiles; never more than a batch a thread at once.

        Images of which not every tile comes are undefined, their map is empty.
        """
        scores = np.zeros(count, np.float32)
        embeddings = np.zeros((count, EMBEDDING_SIZE), np.float16)
        maps = [np.zeros((0, 0), np.float32)] * count
        explanations: dict[int, np.ndarray] = {}
        seconds = 0.0
        for position, parts in groupby(self._scored(batches), key=lambda batch: batch[0].position):
            gathered, explained, any_explained, left = None, None, False, 0
            for (_, grid, pixels), part in parts:
                if gathered is None:
                    gathered, left = TileScores(grid), len(grid.origins)
                    explained = Mosaic(grid) if self.explain is not None else None
                gathered.add(part.score, part.anomaly_map, part.embedding)
                left -= len(pixels)
                seconds += part.seconds
                if explained is not None:
                    cells = np.zeros_like(part.anomaly_map)
                    for tile, found in part.explanations.items():
                        cells[tile], any_explained = found, True
                    explained.add(cells)
            if gathered is not None and not left:
                scores[position], maps[position], embeddings[position] = gathered.result()
                # What a tile shows at its rim only may be gone once the tiles are blended.
                if explained is not None and any_explained and (maps[position] > self.map_threshold).any():
                    explanations[position] = explained.result()
        return UnitScores(scores, maps, embeddings, explanations, seconds / self._at_once)

    def count(self) -> OperationCount:
        """Operations and bytes of one batch."""
        size = self._detector.config.input
        images = torch.zeros(self.batch_size, size.height, size.width, 3, dtype=torch.uint8, device=self.device)
        return operations.count(lambda: self._detector.score(images))

    def finite(self, scores: UnitScores) -> np.ndarray:
        """(N,) bool: score and whole map are finite numbers."""
        return np.isfinite(scores.score) & np.array([np.isfinite(cells).all() for cells in scores.anomaly_map], bool)

    def _scored(self, batches: Iterable[TileBatch]) -> Iterator[tuple[TileBatch, BatchScores]]:
        """Every batch with its results, in order."""
        waiting: deque[tuple[TileBatch, Future[BatchScores]]] = deque()
        for batch in batches:
            waiting.append((batch, self._pool.submit(self._batch, batch.pixels)))
            if len(waiting) >= self._at_once:
                first, scored = waiting.popleft()
                yield first, scored.result()
        for first, scored in waiting:
            yield first, scored.result()

    def _batch(self, pixels: np.ndarray) -> BatchScores:
        """At most a batch of pixels (n, H, W, 3) in the artifact's fixed slots."""
        clock = time.perf_counter()
        slots = np.zeros((self.batch_size, *pixels.shape[1:]), np.uint8)
        slots[: len(pixels)] = pixels
        with torch.inference_mode():
            scored = self._detector.score(torch.from_numpy(slots).to(self.device))
        score, anomaly_map, embedding = (part[: len(pixels)].cpu().numpy() for part in scored)
        explanations = self._explained(pixels, (score, anomaly_map, embedding))
        return BatchScores(score, anomaly_map, embedding, explanations, time.perf_counter() - clock)

    def _explained(self, pixels: np.ndarray, scored: tuple[np.ndarray, ...]) -> dict[int, np.ndarray]:
        """Explanations of the flagged ones of at most a batch, by position in it, (h, w); those not finite are left out."""
        if self.explain is None or self.map_threshold is None:
            return {}
        from models.explanation import explain_flagged

        results = Scored(*(torch.from_numpy(part) for part in scored))
        images = torch.tensor(pixels).to(self.device)
        with self._explaining:
            found = explain_flagged(self._explainer, images, results, self.map_threshold, self.explain)
        maps = zip(found.positions.tolist(), found.maps.cpu().numpy(), strict=True)
        return {position: cells for position, cells in maps if np.isfinite(cells).all()}


def tiling(config: ArtifactConfig) -> Tiling | None:
    """How the model's images are cut; None where they are brought to its input size instead."""
    size = config.input
    if size.resize != "tile":
        return None
    assert config.map_height is not None and config.map_width is not None  # artifacts hold every default filled in
    return Tiling((size.height, size.width), (config.map_height, config.map_width), size.overlap)


def resolve_device(device: str) -> str:
    """`auto` is cuda where there is one, else cpu."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device
