"""Measures rates and memory of the parts of a scoring run; only compare them within one run on one machine."""

import io
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
import psutil
import pyarrow as pa
import ray
from PIL import Image

from pipeline.decode.config import DecodeConfig
from pipeline.decode.process import decode_in_child
from pipeline.in_process import score_encoded
from pipeline.scoring.scorer import Scorer, open_scorer
from pipeline.stages.cluster import Resources
from pipeline.storage.copies import local_copy

SAMPLE_S = 0.5
WARM_IMAGES = 8
DECODE_TIMEOUT_S = 60.0
CALLERS = 2  # of the model alone
LEAST_CALLS = 3  # the first fills the lanes, and at the end the last drains them


@dataclass(frozen=True)
class Rate:
    """A number of images and the seconds that they took."""

    images: int
    seconds: float

    @property
    def per_s(self) -> float:
        return self.images / self.seconds


def one_process(encoded: list[pa.Table], decode: DecodeConfig, scorer: Scorer) -> Rate:
    """Decode and score encoded images in memory, one unit after the other."""
    clock = time.perf_counter()
    for table in encoded:
        score_encoded(table, decode, scorer)
    return Rate(sum(table.num_rows for table in encoded), time.perf_counter() - clock)


def model_alone(pixels: np.ndarray, scorer: Scorer, seconds: float) -> Rate:
    """Score the pixels, (N, H, W, 3) uint8, repeatedly for about `seconds`, and take the steady part.

    Two callers hand them in, so that the lanes of the device always have work. The clock runs from the end of the first call,
    when all lanes are full, to the end of a call after which the other caller still has work there.
    """
    ended: list[float] = []  # the end of every call
    over = time.perf_counter() + seconds

    def call(_caller: int) -> None:
        while len(ended) < LEAST_CALLS or time.perf_counter() < over:
            scorer(pixels)
            ended.append(time.perf_counter())

    with ThreadPoolExecutor(CALLERS) as callers:
        list(callers.map(call, range(CALLERS)))
    steady = sorted(ended)[: len(ended) - CALLERS + 1]
    return Rate(len(pixels) * (len(steady) - 1), steady[-1] - steady[0])


def decode_alone(encoded: list[pa.Table], decode: DecodeConfig, seconds: float) -> Rate:
    """Decode the images repeatedly for about `seconds`, as the read stage does: a decoder's process works on one core, and
    this process waits for it. Not for models that score by tiles."""
    decode_in_child(encoded[0].slice(0, WARM_IMAGES), decode, DECODE_TIMEOUT_S)
    images, clock = 0, time.perf_counter()
    while True:
        for table in encoded:
            decode_in_child(table, decode, DECODE_TIMEOUT_S)
            images += table.num_rows
            if time.perf_counter() - clock >= seconds:
                return Rate(images, time.perf_counter() - clock)


def pillow_alone(encoded: list[bytes], decode: DecodeConfig, seconds: float) -> Rate:
    """The same with the code that a user writes first, in this thread: open, convert to RGB, resize."""
    images, clock = 0, time.perf_counter()
    while True:
        for content in encoded:
            Image.open(io.BytesIO(content)).convert("RGB").resize((decode.width, decode.height))
            images += 1
            if time.perf_counter() - clock >= seconds:
                return Rate(images, time.perf_counter() - clock)


def scorer_start_s(artifact_uri: str, cache_dir: Path, resources: Resources, decode: DecodeConfig) -> float:
    """Seconds from asking a running Ray for a scorer until it has scored a batch, in a worker that does nothing else."""
    asked = ray.remote(num_cpus=resources.scorer_cpus or 0, num_gpus=resources.scorer_gpus or 0, max_calls=1)(_first_batch)
    clock = time.perf_counter()
    ray.get(asked.remote(artifact_uri, cache_dir, resources.device, resources.threads, (decode.height, decode.width)))
    return time.perf_counter() - clock


def _first_batch(artifact_uri: str, cache_dir: Path, device: str, threads: int | None, size: tuple[int, int]) -> None:
    scorer = open_scorer(local_copy(artifact_uri, cache_dir), device, threads)
    scorer(np.zeros((scorer.batch_size, *size, 3), np.uint8))


class PeakMemory:
    """Samples memory twice a second inside its `with`: this process, and the Ray processes that it started on this machine.

    driver: largest resident set, bytes.  workers: largest sum over child processes of resident, unshared memory, bytes.
    Unique set sizes would be exact, but reading them walks every page table: on two cores it cost a third of the run's speed.
    """

    def __init__(self) -> None:
        self.driver = self.workers = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> "PeakMemory":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        driver = psutil.Process()
        while not self._stop.wait(SAMPLE_S):
            self.driver = max(self.driver, driver.memory_info().rss)
            total = 0
            for child in driver.children(recursive=True):
                try:
                    memory = child.memory_info()
                    total += memory.rss - getattr(memory, "shared", 0)  # macOS does not tell it
                except (psutil.NoSuchProcess, psutil.AccessDenied):
                    continue
            self.workers = max(self.workers, total)
