"""Runs a computation on batches of one shape as a CUDA graph: hundreds of kernels start as one, without host work in each.

The kernels are those of an ordinary call, so the results are the same bit for bit; every start compares one replay with one
call. Capturing takes about as long as one more call, at every start of an actor; a cache would save nothing.
"""

import contextlib
import logging
from collections.abc import Callable

import torch
from torch import Tensor

from models.detector import Scored
from pipeline.scoring.device import Device
from pipeline.scoring.faults import ReplayDiffers

log = logging.getLogger(__name__)

WARM_UP_CALLS = 2  # so that libraries choose their kernels and take their memory before the capture


class Captured:
    """The computation, replayed where it can be captured, called directly elsewhere (on a CPU, or with a line that says why).

    Only its argument's values may determine the result: it may read no value (no `.item()`) and copy nothing from the host.
    tests/models/detectors/test_detectors.py holds every detector to that. Calls come from one thread at a time, on one stream.

    one_by_one: whether it runs on a GPU without a graph, so that its kernels start one by one.
    """

    def __init__(self, compute: Callable[[Tensor], Scored], shape: tuple[int, ...], device: Device):
        """shape: shape of the argument, uint8.

        Raises:
            ReplayDiffers: a replay gives other results than a call.
            RuntimeError: of torch, when the device fails; for lack of memory its OutOfMemoryError.
        """
        self._compute, self._graph = compute, None
        if device == "cuda":
            self._graph = captured(compute, torch.zeros(shape, dtype=torch.uint8, device=device))
        self.one_by_one = device == "cuda" and self._graph is None

    def __call__(self, images: Tensor) -> Scored:
        """Results of a batch on the device, on the current stream. The next call overwrites them."""
        return self._compute(images) if self._graph is None else self._graph(images)


class Graph:
    """A captured computation. images: its argument, where every replay reads it.  results: where every replay leaves them."""

    def __init__(self, graph: torch.cuda.CUDAGraph, images: Tensor, results: Scored):
        self._graph, self._images, self._results = graph, images, results

    def __call__(self, images: Tensor) -> Scored:
        self._images.copy_(images)
        self._graph.replay()
        return self._results


def captured(compute: Callable[[Tensor], Scored], images: Tensor) -> Graph | None:
    """The computation as a graph that reads `images`; None, after a line that says why, for one that cannot be captured.

    Raises as Captured does.
    """
    for _ in range(WARM_UP_CALLS):
        compute(images)
    graph, pool = torch.cuda.CUDAGraph(), torch.cuda.graph_pool_handle()
    try:
        # thread_local: other threads may allocate pinned memory meanwhile
        with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
            results = compute(images)
    except RuntimeError as error:
        _end_capture(graph, pool)
        torch.cuda.synchronize()  # raises again what is the device's fault
        cause = _first(error)
        if isinstance(cause, torch.OutOfMemoryError):
            raise cause from None
        log.warning("the model does not run as a CUDA graph; its kernels start one by one: %s", cause)
        return None
    replayed = Graph(graph, images, results)
    _compare(compute, replayed, images)
    return replayed


def _first(error: BaseException) -> BaseException:
    """The error that came first: ending a capture that has failed raises one more, which says nothing."""
    return error if error.__context__ is None else _first(error.__context__)


def _end_capture(graph: torch.cuda.CUDAGraph, pool: tuple[int, int]) -> None:
    """Take the allocator out of the capture that failed. Otherwise what is allocated next goes into the graph's memory, which
    is never given back, and emptying the cache is an internal error."""
    graph.reset()
    # torch 2.15 has done all of it then, and knows no such pool any more; before, it left the pool of a failed capture alone.
    with contextlib.suppress(RuntimeError):
        torch._C._cuda_endAllocateToPool(torch.cuda.current_device(), pool)
        torch._C._cuda_releasePool(torch.cuda.current_device(), pool)


def _compare(compute: Callable[[Tensor], Scored], graph: Graph, images: Tensor) -> None:
    """Raises ReplayDiffers unless a replay gives the bits of a call, on a batch that is not the one of the capture.

    A graph that captured nothing, since the kernels went to another device or stream, would give the results of blank images
    for all.
    """
    generator = torch.Generator().manual_seed(0)
    batch = torch.randint(256, images.shape, dtype=torch.uint8, generator=generator).to(images.device)
    expected = [part.clone() for part in compute(batch)]
    torch.cuda.synchronize()
    found = graph(batch)
    torch.cuda.synchronize()
    for name, part, other in zip(Scored._fields, expected, found, strict=True):
        if not _same_bits(part, other):
            raise ReplayDiffers(
                f"a replay of the model's CUDA graph must give the bits of a plain call; its {name} differs on "
                f"{torch.cuda.get_device_name()}. The graph is empty, or torch is at fault: report it, and use --device cpu"
            )


def _same_bits(one: Tensor, other: Tensor) -> bool:
    """Not-a-numbers are equal to themselves here."""
    return one.dtype == other.dtype and torch.equal(one.contiguous().view(torch.uint8), other.contiguous().view(torch.uint8))
