"""Runs a computation on batches of one shape as a CUDA graph: hundreds of kernels start as one, without host work in each.

The kernels are those of an ordinary call, so the results are the same bit for bit. Capturing takes about as long as one
more call, at every start of an actor; a cache would save nothing.
"""

import logging
from collections.abc import Callable

import torch
from torch import Tensor

from models.detector import Scored

log = logging.getLogger(__name__)

WARM_UP_CALLS = 2  # so that libraries choose their kernels and take their memory before the capture


class Captured:
    """The computation, replayed where it can be captured, called directly elsewhere (on a CPU, or with a line that says why).

    Only its argument's values may determine the result: it may read no value (no `.item()`) and copy nothing from the host.
    tests/models/detectors/test_detectors.py holds every detector to that. Calls come from one thread at a time, on one stream.
    """

    def __init__(self, compute: Callable[[Tensor], Scored], shape: tuple[int, ...], device: str):
        """shape: shape of the argument, uint8."""
        self._compute = compute
        self._graph: torch.cuda.CUDAGraph | None = None
        if not device.startswith("cuda"):
            return
        self._images = torch.zeros(shape, dtype=torch.uint8, device=device)
        for _ in range(WARM_UP_CALLS):
            compute(self._images)
        graph = torch.cuda.CUDAGraph()
        try:
            # thread_local: other threads may allocate pinned memory meanwhile
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                self._results = compute(self._images)
        except RuntimeError as error:
            torch.cuda.synchronize(device)
            log.warning("the model does not run as a CUDA graph; its kernels start one by one: %s", error)
            return
        self._graph = graph

    def __call__(self, images: Tensor) -> Scored:
        """Results of a batch on the device, on the current stream. The next call overwrites them."""
        if self._graph is None:
            return self._compute(images)
        self._images.copy_(images)
        self._graph.replay()
        return self._results
