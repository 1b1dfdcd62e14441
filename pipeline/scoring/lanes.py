"""Moves several batches through the device at once, each in its own lane.

On a CPU a lane is a thread that computes its batch alone. On a CUDA device the lanes share the device in turn: while it
computes the batch of one lane, the next lane's pixels are copied to it from pinned memory on a stream of that lane, and the
lane before takes its results. The code is the same for both; on a CPU streams do nothing and events read the clock.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from queue import SimpleQueue
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from models.detector import Scored
from pipeline.scoring.device import Device
from pipeline.scoring.device_calls import on_device
from pipeline.scoring.idle import IdleClock
from pipeline.scoring.watchdog import BATCH_S, LONG_S, Watchdog, over

Result = TypeVar("Result")

LANES_IN_TURN = 3  # one computes, one receives pixels, one returns results


class BatchScores(NamedTuple):
    """Results of n images: score (n,), anomaly_map (n, h, w) float32, embedding (n, 32) float16. Seconds that the device
    (on a CPU, this thread) computed, and seconds of copying pixels and results."""

    score: np.ndarray
    anomaly_map: np.ndarray
    embedding: np.ndarray
    compute_s: float
    copy_s: float


class ClockEvent:
    """A point in time, like torch.cuda.Event on a CUDA device."""

    def record(self, stream: object) -> None:
        self._at = time.perf_counter()

    def synchronize(self) -> None:
        """The recorded work is already done."""

    def elapsed_time(self, later: "ClockEvent") -> float:
        """Milliseconds."""
        return 1000 * (later._at - self._at)


class Lanes:
    """Lanes of one device and one computation, one thread per lane; several threads may hand in batches."""

    def __init__(
        self,
        compute: Callable[[Tensor], Scored],
        shape: tuple[int, ...],
        device: Device,
        count: int,
        in_turn: bool,
        idle: IdleClock,
        watch: Watchdog | None = None,
    ):
        """Args:
        compute: (B, H, W, 3) uint8 on the device to results.
        shape: (B, H, W, 3), fixed.
        count: number of lanes.
        in_turn: lanes use the device one after the other, best for a GPU; else each computes on one CPU thread.
        watch: told when the device has a batch or is in a caller's turn, so that a hang is noticed. Waiting for a turn, which
            explanations may hold for long, is no hang.
        """
        self._device, self._watch = device, watch
        self._work = f"a batch of {shape[0]} images of {shape[1]} x {shape[2]} pixels"
        turn = threading.Lock() if in_turn else None
        self._on = torch.get_device_module(device)
        stream = self._on.Stream()
        self._turn, self._stream = turn, stream
        self.count = count
        self._free: SimpleQueue[_Lane] = SimpleQueue()
        for _ in range(count):
            self._free.put(_Lane(compute, shape, device, stream, turn, idle, partial(over, watch, self._work, BATCH_S)))
        one_each: dict[str, Any] = {} if in_turn else {"initializer": torch.set_num_threads, "initargs": (1,)}
        self._pool = ThreadPoolExecutor(count, "scorer", **one_each)

    def submit(self, pixels: np.ndarray, then: Callable[[np.ndarray, BatchScores], Result]) -> Future[Result]:
        """The result of `then` for at most one batch of pixels, (n, H, W, 3) uint8, and its scores. The pixels must not change
        until it is done. Its error is a DeviceFault when the device is at fault."""
        return self._pool.submit(lambda: self._then(then, pixels, self._run(pixels)))

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Inside the block the device is the caller's, after the batches that it has; no lane hands it another.

        On lanes without turns it waits for nothing. A function given to `submit` may use it, and must where it uses the device:
        a hang is noticed only in here.
        """
        with (
            self._turn or contextlib.nullcontext(),
            over(self._watch, f"what follows {self._work}", LONG_S),
            self._on.stream(self._stream),
        ):
            yield

    def _run(self, pixels: np.ndarray) -> BatchScores:
        lane = self._free.get()
        try:
            return on_device(lambda: lane.run(pixels), self._device, self._work, self._watch)
        finally:
            self._free.put(lane)

    def _then(self, then: Callable[[np.ndarray, BatchScores], Result], pixels: np.ndarray, scores: BatchScores) -> Result:
        return on_device(lambda: then(pixels, scores), self._device, f"what follows {self._work}", self._watch)


class _Lane:
    """One batch at a time: memory for its pixels and its results, and its share of the device's time."""

    def __init__(
        self,
        compute: Callable[[Tensor], Scored],
        shape: tuple[int, ...],
        device: Device,
        stream: Any,
        turn: contextlib.AbstractContextManager | None,
        idle: IdleClock,
        watched: Callable[[], contextlib.AbstractContextManager[None]],
    ):
        """stream: the stream that the device computes on. turn: held by the lane that hands its batch to the device; None: no
        turns, and pixels and results stay in place. watched: a block in which the device is at work for this lane."""
        cuda = device == "cuda"
        self._watched = watched
        self._compute, self._stream, self._turn, self._idle = compute, stream, turn, idle
        self._on = torch.get_device_module(device)
        self._copies = self._on.Stream()
        self._pinned = cuda
        self._staged = torch.zeros(shape, dtype=torch.uint8, pin_memory=cuda)
        self._images = self._staged if turn is None else torch.zeros(shape, dtype=torch.uint8, device=device)
        self._results: list[Tensor] = []
        event: Callable[[], Any] = partial(torch.cuda.Event, enable_timing=True) if cuda else ClockEvent
        self._began, self._arrived, self._started, self._computed, self._returned = (event() for _ in range(5))

    def run(self, pixels: np.ndarray) -> BatchScores:
        """The first n slots hold the batch, the others are blank."""
        count = len(pixels)
        clock = time.perf_counter()
        slots = self._staged.numpy()
        slots[:count] = pixels
        slots[count:] = 0
        staged_s = time.perf_counter() - clock
        with self._watched(), self._on.stream(self._copies):
            self._began.record(self._copies)
            if self._images is not self._staged:
                self._images.copy_(self._staged, non_blocking=True)
            self._arrived.record(self._copies)
        with self._idle.computing(), contextlib.ExitStack() as until_returned:
            with self._turn or contextlib.nullcontext(), self._on.stream(self._stream), torch.inference_mode():
                until_returned.enter_context(self._watched())  # other lanes' turns are not this batch's time
                self._stream.wait_stream(self._copies)
                self._started.record(self._stream)
                found = self._compute(self._images)
                self._computed.record(self._stream)
                self._take(found)
                self._returned.record(self._stream)
            self._returned.synchronize()
        score, anomaly_map, embedding = (part[:count].numpy().copy() for part in self._results)
        compute_s = self._started.elapsed_time(self._computed) / 1000
        copied_ms = self._began.elapsed_time(self._arrived) + self._computed.elapsed_time(self._returned)
        return BatchScores(score, anomaly_map, embedding, compute_s, staged_s + copied_ms / 1000)

    def _take(self, found: Scored) -> None:
        """Start copying the results to the lane's memory on the host; the next batch may overwrite them on the device."""
        if self._turn is None:
            self._results = list(found)
            return
        if not self._results:
            self._results = [torch.empty(part.shape, dtype=part.dtype, pin_memory=self._pinned) for part in found]
        for target, part in zip(self._results, found, strict=True):
            target.copy_(part, non_blocking=True)
