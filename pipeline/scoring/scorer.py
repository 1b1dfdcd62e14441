"""Scores the pixels of one unit, in fixed batch slots, in the process that owns the device."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from models import artifact, operations
from models.config import ArtifactConfig
from models.detector import Detector, Scored
from models.explain.methods import Method
from models.features.embedding import EMBEDDING_SIZE
from models.maps.tiling import Tiling
from models.operations import OperationCount
from pipeline.decode.tiles import TileBatch
from pipeline.scoring.captured import Captured
from pipeline.scoring.device import Device, hardware, resolve_device
from pipeline.scoring.device_calls import on_device
from pipeline.scoring.faults import NoMemory
from pipeline.scoring.idle import IdleClock
from pipeline.scoring.lanes import LANES_IN_TURN, BatchScores, Lanes
from pipeline.scoring.tile_slots import ImageResults, SlotBatch, in_slots
from pipeline.scoring.watchdog import Watchdog
from pipeline.storage.ahead import in_order

log = logging.getLogger(__name__)


class Explain(NamedTuple):
    """of: turns a batch of images (n, H, W, 3) uint8 and its results into maps (h, w) float32 by position in the batch."""

    method: Method
    of: Callable[[Tensor, Scored], dict[int, np.ndarray]]


@dataclass(frozen=True)
class UnitScores:
    """The detector's results for a unit's N images, in unit order; rows of images without pixels are undefined.

    score: (N,) float32.  anomaly_map: N of (h, w) float32, all of one size unless scored by tiles.
    embedding: (N, 32) float16.  explanations: (h, w) float32 on the map's cells, by position of the images that have one.
    device_s: seconds that the device computed for the unit; on a CPU, those of all threads divided by their number.
    copy_s: seconds of copying pixels to the device and results back, likewise.
    """

    score: np.ndarray
    anomaly_map: Sequence[np.ndarray]
    embedding: np.ndarray
    explanations: dict[int, np.ndarray] = field(default_factory=dict)
    device_s: float = 0.0
    copy_s: float = 0.0


class _Done(NamedTuple):
    """A batch's results, and the explanations by position in it; None where the device had too little memory for them."""

    scores: BatchScores
    explanations: dict[int, np.ndarray] | None


class Scorer:
    """A detector on its device.

    label: the scoring mode, by which scores compare: `cuda-bf16`.  one_by_one: whether its kernels start one by one on a GPU,
    because it does not run as a CUDA graph: slower, with the same results.

    Every batch has the artifact's batch size: a bad image leaves its slot blank and blanks fill up the last
    batch, so that an image's arithmetic depends only on its slot, never on which other images could be read.

    On a CPU every thread works on its own batch. Threads that share a batch spin in every layer while they wait for each
    other: beside one other busy process, two took 2.5 times as long (docs/benchmarks/throughput). Calls may come from several
    threads; their batches take turns.
    """

    def __init__(
        self,
        detector: Detector,
        device: Device = "cpu",
        threads: int | None = None,
        explain: Explain | None = None,
        idle: IdleClock | None = None,
        watch: Watchdog | None = None,
    ) -> None:
        """Args:
        detector: frozen, on the device.
        device: cpu or cuda.
        threads: of a CPU; None: as many as torch has.
        idle: told when the device has work.
        watch: told too; it notices a device that hangs.
        """
        config = detector.config
        self._detector, self.explain = detector, explain
        self.batch_size, self.map_threshold = config.batch_size, config.map_threshold
        self.label = f"{device}-{config.precision}"
        self.tiling = tiling(config)
        self.device = device
        self._said = False  # that memory is too little for explanations
        self._idle = idle = idle or IdleClock(units=1)
        shape = (config.batch_size, config.input.height, config.input.width, 3)
        in_turn = device == "cuda"
        self._at_once = 1 if in_turn else threads or torch.get_num_threads()  # batches that the device computes
        lanes = LANES_IN_TURN if in_turn else self._at_once
        captured = Captured(detector.score, shape, device)
        self.one_by_one = captured.one_by_one
        self._lanes = Lanes(captured, shape, device, lanes, in_turn, idle, watch)
        idle.set_capacity(self._at_once)

    def __call__(self, pixels: np.ndarray) -> UnitScores:
        """Args:
        pixels: (N, H, W, 3) uint8, N > 0; zeros where an image has no pixels.
        """
        starts = range(0, len(pixels), self.batch_size)
        futures = [self._submit(pixels[start : start + self.batch_size]) for start in starts]
        done = [future.result() for future in futures]
        results = [batch.scores for batch in done]
        explanations = {
            start + position: cells
            for start, batch in zip(starts, done, strict=True)
            for position, cells in (batch.explanations or {}).items()
        }
        return UnitScores(
            np.concatenate([result.score for result in results]),
            list(np.concatenate([result.anomaly_map for result in results])),
            np.concatenate([result.embedding for result in results]),
            explanations,
            sum(result.compute_s for result in results) / self._at_once,
            sum(result.copy_s for result in results) / self._at_once,
        )

    def by_tiles(self, batches: Iterable[TileBatch], count: int) -> UnitScores:
        """Score the images of a unit of `count` by their tiles, several images in a batch (pipeline/scoring/tile_slots.py);
        at most one batch per thread at once.

        An image with a missing tile has an undefined score and an empty map.
        """
        scores = np.zeros(count, np.float32)
        embeddings = np.zeros((count, EMBEDDING_SIZE), np.float16)
        maps = [np.zeros((0, 0), np.float32)] * count
        explanations: dict[int, np.ndarray] = {}
        images: dict[int, ImageResults] = {}
        device_s = copy_s = 0.0
        for batch, (result, found) in self._scored(in_slots(batches, self.batch_size)):
            device_s += result.compute_s / self._at_once
            copy_s += result.copy_s / self._at_once
            for (position, _, grid), slots in batch.images():
                if position not in images:
                    images[position] = ImageResults(grid, self.explain is not None)
                image = images[position]
                image.add(result.score[slots], result.anomaly_map[slots], result.embedding[slots])
                if found is None:
                    image.leave_unexplained()
                else:
                    cells = [found.get(slot, np.zeros_like(result.anomaly_map[slot])) for slot in slots]
                    image.explain(np.stack(cells), any(slot in found for slot in slots))
                if image.complete:
                    scores[position], maps[position], embeddings[position] = images.pop(position).result()
                    explanation = image.explanation()
                    # A peak at the rim of a tile may vanish when the tiles are blended.
                    if explanation is not None and self._flagged(maps[position]):
                        explanations[position] = explanation
        return UnitScores(scores, maps, embeddings, explanations, device_s, copy_s)

    @cached_property
    def hardware(self) -> str:
        """The chip and the libraries, in words; see pipeline/scoring/device.py."""
        return hardware(self.device)

    def count(self) -> OperationCount:
        """Operations and bytes of one batch."""
        size = self._detector.config.input
        images = torch.zeros(self.batch_size, size.height, size.width, 3, dtype=torch.uint8, device=self.device)
        return operations.count(lambda: self._detector.score(images))

    def finite(self, scores: UnitScores) -> np.ndarray:
        """(N,) bool: score, whole map and embedding are finite numbers."""
        maps = np.array([np.isfinite(cells).all() for cells in scores.anomaly_map], bool)
        return np.isfinite(scores.score) & maps & np.isfinite(scores.embedding).all(1)

    def _flagged(self, cells: np.ndarray) -> bool:
        """Whether a map has a region."""
        return self.map_threshold is not None and bool((cells > self.map_threshold).any())

    def _scored(self, batches: Iterable[SlotBatch]) -> Iterator[tuple[SlotBatch, _Done]]:
        """Every batch with its results, in order."""

        def begin(batch: SlotBatch) -> tuple[SlotBatch, Future[_Done]]:
            return batch, self._submit(batch.pixels, batch.used)

        return in_order(begin, batches, lambda begun: (begun[0], begun[1].result()), self._lanes.count - 1)

    def _submit(self, pixels: np.ndarray, used: Sequence[int] | None = None) -> Future[_Done]:
        """At most a batch of pixels (n, H, W, 3), in the artifact's fixed slots; used: those that may be explained, all by
        default."""
        return self._lanes.submit(pixels, partial(self._explained, range(len(pixels)) if used is None else used))

    def _explained(self, used: Sequence[int], pixels: np.ndarray, scores: BatchScores) -> _Done:
        """Adds explanations (h, w) of the flagged images in these slots; leaves out those that are not finite, and all of a
        batch for which the device has too little memory: the images have their scores."""
        if self.explain is None:
            return _Done(scores, {})
        with self._idle.computing(), self._lanes.turn():
            clock = time.perf_counter()
            chosen = list(used)
            results = Scored(*(torch.from_numpy(part[chosen]) for part in scores[:3]))
            explain, images = self.explain.of, torch.from_numpy(pixels[chosen])
            try:
                found = on_device(lambda: explain(images, results), self.device, "the explanation of a batch's images")
            except NoMemory as error:
                if not self._said:
                    log.warning("flagged images stay without an explanation, and keep their scores: %s", error)
                self._said = True
                return _Done(scores, None)
            spent = time.perf_counter() - clock
        scores = scores._replace(compute_s=scores.compute_s + spent)
        return _Done(scores, {used[at]: cells for at, cells in found.items() if np.isfinite(cells).all()})


def open_scorer(
    directory: Path,
    device: str = "auto",
    threads: int | None = None,
    explain: Method | None = None,
    idle: IdleClock | None = None,
    watch: Watchdog | None = None,
) -> Scorer:
    """The artifact's detector on the device.

    device: auto, cpu or cuda; whoever was told what to score on says cpu or cuda.
    explain: also explain the images whose map has a cell above the model's map threshold; each takes a few passes forward
    and back in float32. In an image of tiles, only tiles with such a cell are explained; the others count as 0.
    Without a threshold nothing is explained.
    """
    found = resolve_device(device)
    opened = artifact.read(directory)
    detector = artifact.load(opened, found)
    if explain is None or opened.config.map_threshold is None:
        return Scorer(detector, found, threads, idle=idle, watch=watch)
    return Scorer(detector, found, threads, _explain(opened, found, explain), idle, watch)


def _explain(opened: artifact.Artifact, device: str, method: Method) -> Explain:
    from models.explain.explainer import Explainer  # captum takes seconds to import, and most runs do not need it
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
    """How the model's images are cut into tiles; None when they are resized to its input instead."""
    size = config.input
    if size.resize != "tile":
        return None
    assert config.map_height is not None and config.map_width is not None  # an artifact holds every default
    return Tiling((size.height, size.width), (config.map_height, config.map_width), size.overlap)
