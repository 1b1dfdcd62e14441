"""Scores the pixels of one unit, in fixed batch slots, in whatever process owns the device."""

import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from models import artifact, operations
from models.config import ArtifactConfig
from models.detector import Detector, Scored
from models.explain.methods import Method
from models.faults import NoSuchDevice
from models.features.embedding import EMBEDDING_SIZE
from models.maps.tiling import Mosaic, TileScores, Tiling
from models.operations import OperationCount
from pipeline.decode.tiles import TileBatch
from pipeline.scoring.captured import Captured
from pipeline.scoring.idle import IdleClock
from pipeline.scoring.lanes import LANES_IN_TURN, BatchScores, Lanes
from pipeline.storage.ahead import in_order


class Explain(NamedTuple):
    """of: from images of a batch (n, H, W, 3) uint8 and their results to maps (h, w) float32 by position of those explained."""

    method: Method
    of: Callable[[Tensor, Scored], dict[int, np.ndarray]]


@dataclass(frozen=True)
class UnitScores:
    """What the detector says of a unit's N images, in unit order; rows of images without pixels are undefined.

    score: (N,) float32.  anomaly_map: N of (h, w) float32, all of one size unless scored by tiles.
    embedding: (N, 32) float16.  explanations: by position, of the images that have one, (h, w) float32 on the map's cells.
    device_s: seconds that the device computed for the unit; of a CPU, those of all threads divided by their number.
    copy_s: seconds of copying pixels to the device and results back, likewise.
    """

    score: np.ndarray
    anomaly_map: Sequence[np.ndarray]
    embedding: np.ndarray
    explanations: dict[int, np.ndarray] = field(default_factory=dict)
    device_s: float = 0.0
    copy_s: float = 0.0


class _Done(NamedTuple):
    """A batch's results, and the explanations by position in it."""

    scores: BatchScores
    explanations: dict[int, np.ndarray]


class Scorer:
    """A detector on its device.

    Every batch has the artifact's batch size: a bad image leaves its slot blank and the last batch is filled up with
    blanks, so that an image's arithmetic depends on its slot only, never on what else could be read.

    On a CPU every thread works on a batch of its own. Threads that share a batch wait for each other, by spinning, in every
    layer: beside one other busy process, two took 2.5 times as long (docs/benchmarks/throughput). Calls may come from several
    threads; their batches take turns.
    """

    def __init__(
        self,
        detector: Detector,
        device: str = "cpu",
        threads: int | None = None,
        explain: Explain | None = None,
        idle: IdleClock | None = None,
    ) -> None:
        """Args:
        detector: frozen, on the device.
        device: cpu or cuda.
        threads: of a CPU, None: as many as torch has.
        idle: told when the device has work.
        """
        config = detector.config
        self._detector, self.explain = detector, explain
        self.batch_size, self.map_threshold = config.batch_size, config.map_threshold
        self.label = f"{device.split(':')[0]}-{config.precision}"
        self.tiling = tiling(config)
        self.device = device
        self._idle = idle = idle or IdleClock(units=1)
        shape = (config.batch_size, config.input.height, config.input.width, 3)
        in_turn = device.startswith("cuda")
        self._at_once = 1 if in_turn else threads or torch.get_num_threads()  # batches that the device computes
        lanes = LANES_IN_TURN if in_turn else self._at_once
        self._lanes = Lanes(Captured(detector.score, shape, device), shape, device, lanes, in_turn, idle)
        idle.set_capacity(self._at_once)

    def __call__(self, pixels: np.ndarray) -> UnitScores:
        """Args:
        pixels: (N, H, W, 3) uint8, N > 0; zeros where an image has no pixels.
        """
        starts = range(0, len(pixels), self.batch_size)
        futures = [self._submit(pixels[start : start + self.batch_size]) for start in starts]
        done = [future.result() for future in futures]
        parts = [part.scores for part in done]
        explanations = {
            start + position: cells
            for start, part in zip(starts, done, strict=True)
            for position, cells in part.explanations.items()
        }
        return UnitScores(
            np.concatenate([part.score for part in parts]),
            list(np.concatenate([part.anomaly_map for part in parts])),
            np.concatenate([part.embedding for part in parts]),
            explanations,
            sum(part.compute_s for part in parts) / self._at_once,
            sum(part.copy_s for part in parts) / self._at_once,
        )

    def by_tiles(self, batches: Iterable[TileBatch], count: int) -> UnitScores:
        """Score the images of a unit of `count` by their tiles; never more than a batch a thread at once.

        Images of which not every tile comes are undefined, their map is empty.
        """
        scores = np.zeros(count, np.float32)
        embeddings = np.zeros((count, EMBEDDING_SIZE), np.float16)
        maps = [np.zeros((0, 0), np.float32)] * count
        explanations: dict[int, np.ndarray] = {}
        device_s = copy_s = 0.0
        for position, parts in groupby(self._scored(batches), key=lambda batch: batch[0].position):
            gathered, explained, any_explained, left = None, None, False, 0
            for (_, grid, pixels), (part, found) in parts:
                if gathered is None:
                    gathered, left = TileScores(grid), len(grid.origins)
                    explained = Mosaic(grid) if self.explain is not None else None
                gathered.add(part.score, part.anomaly_map, part.embedding)
                left -= len(pixels)
                device_s += part.compute_s / self._at_once
                copy_s += part.copy_s / self._at_once
                if explained is not None:
                    cells = np.zeros_like(part.anomaly_map)
                    for tile, explanation in found.items():
                        cells[tile], any_explained = explanation, True
                    explained.add(cells)
            if gathered is not None and not left:
                scores[position], maps[position], embeddings[position] = gathered.result()
                # What a tile shows at its rim only may be gone once the tiles are blended.
                if explained is not None and any_explained and (maps[position] > self.map_threshold).any():
                    explanations[position] = explained.result()
        return UnitScores(scores, maps, embeddings, explanations, device_s, copy_s)

    def count(self) -> OperationCount:
        """Operations and bytes of one batch."""
        size = self._detector.config.input
        images = torch.zeros(self.batch_size, size.height, size.width, 3, dtype=torch.uint8, device=self.device)
        return operations.count(lambda: self._detector.score(images))

    def finite(self, scores: UnitScores) -> np.ndarray:
        """(N,) bool: score and whole map are finite numbers."""
        return np.isfinite(scores.score) & np.array([np.isfinite(cells).all() for cells in scores.anomaly_map], bool)

    def _scored(self, batches: Iterable[TileBatch]) -> Iterator[tuple[TileBatch, _Done]]:
        """Every batch with its results, in order."""

        def begin(batch: TileBatch) -> tuple[TileBatch, Future[_Done]]:
            return batch, self._submit(batch.pixels)

        return in_order(begin, batches, lambda begun: (begun[0], begun[1].result()), self._lanes.count - 1)

    def _submit(self, pixels: np.ndarray) -> Future[_Done]:
        """At most a batch of pixels (n, H, W, 3), in the artifact's fixed slots."""
        return self._lanes.submit(pixels, self._explained)

    def _explained(self, pixels: np.ndarray, scores: BatchScores) -> _Done:
        """With explanations of the flagged ones, (h, w); those not finite are left out."""
        if self.explain is None:
            return _Done(scores, {})
        clock = time.perf_counter()
        with self._idle.computing():
            found = self.explain.of(torch.tensor(pixels), Scored(*(torch.from_numpy(part) for part in scores[:3])))
        scores = scores._replace(compute_s=scores.compute_s + time.perf_counter() - clock)
        return _Done(scores, {position: cells for position, cells in found.items() if np.isfinite(cells).all()})


def open_scorer(
    directory: Path,
    device: str = "auto",
    threads: int | None = None,
    explain: Method | None = None,
    idle: IdleClock | None = None,
) -> Scorer:
    """The artifact's detector on the device.

    explain: also explain the images whose map has a cell above the model's map threshold; each takes a few passes forward
    and back in float32. Of an image in tiles those tiles are explained that have such a cell; the others count as 0.
    Without a threshold nothing is explained.
    """
    device = resolve_device(device)
    opened = artifact.read(directory)
    detector = artifact.load(opened, device)
    if explain is None or opened.config.map_threshold is None:
        return Scorer(detector, device, threads, idle=idle)
    return Scorer(detector, device, threads, _explain(opened, device, explain), idle)


def _explain(opened: artifact.Artifact, device: str, method: Method) -> Explain:
    from models.explain.explainer import Explainer  # captum takes seconds that most runs need not wait
    from models.explain.flagged import explain_flagged

    explainer, one_at_a_time = Explainer(artifact.load(artifact.in_float32(opened), device)), threading.Lock()
    threshold = opened.config.map_threshold
    assert threshold is not None

    def explain(images: Tensor, results: Scored) -> dict[int, np.ndarray]:
        with one_at_a_time:
            found = explain_flagged(explainer, images.to(device), results, threshold, method)
        return dict(zip(found.positions.tolist(), found.maps.cpu().numpy(), strict=True))

    return Explain(method, explain)


def tiling(config: ArtifactConfig) -> Tiling | None:
    """How the model's images are cut; None where they are brought to its input size instead."""
    size = config.input
    if size.resize != "tile":
        return None
    assert config.map_height is not None and config.map_width is not None  # artifacts hold every default filled in
    return Tiling((size.height, size.width), (config.map_height, config.map_width), size.overlap)


def resolve_device(device: str) -> str:
    """`auto` is cuda where there is one, else cpu. Raises NoSuchDevice for what this machine cannot compute on."""
    found = torch.cuda.is_available()
    if device == "auto":
        return "cuda" if found else "cpu"
    named = re.fullmatch(r"cpu|cuda(?::(\d{1,3}))?", device)
    if named is None or (device != "cpu" and not (found and int(named[1] or 0) < torch.cuda.device_count())):
        usable = "auto, cpu or cuda" if found else "auto or cpu on this machine"
        raise NoSuchDevice(f"device must be {usable}; got {device!r}. Choose one of them.")
    return device
