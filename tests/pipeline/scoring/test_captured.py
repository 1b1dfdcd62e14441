import contextlib
import gc
import weakref

import pytest
import torch
from cuda_stand_in import stand_in

from models.detector import Scored
from pipeline.scoring.captured import WARM_UP_CALLS, Captured, captured
from pipeline.scoring.device_calls import on_device
from pipeline.scoring.faults import ReplayDiffers

SHAPE = (4, 2, 2, 3)


class Counting:
    """A computation that counts its calls. With not_a_number its maps hold one."""

    def __init__(self, not_a_number=False):
        self.calls, self.last, self._nan = 0, None, not_a_number

    def __call__(self, images):
        self.calls += 1
        cells = images.float().mean(3)  # (B, 2, 2)
        if self._nan:
            cells = cells / 0.0 - cells / 0.0
        self.last = images, Scored(cells.mean((1, 2)), cells, cells.new_zeros(len(images), 32))
        return self.last[1]


class Graph:
    """In place of torch.cuda.CUDAGraph: a replay computes on the CPU what was captured, or nothing if the graph is empty."""

    def __init__(self, compute, empty=False):
        self.compute, self.empty, self.replays, self.resets = compute, empty, 0, 0

    def hold(self):
        self.images, self.results = self.compute.last

    def replay(self):
        self.replays += 1
        if not self.empty:
            calls = self.compute.calls
            for kept, new in zip(self.results, self.compute(self.images), strict=True):
                kept.copy_(new)
            self.compute.calls = calls

    def reset(self):
        self.resets += 1


@pytest.fixture
def capture(monkeypatch):
    """Makes `captured` work on the CPU with a given graph; `fails` ends the capture."""

    def install(graph, fails=None):
        @contextlib.contextmanager
        def block(of, pool, capture_error_mode):
            assert of is graph and pool == (0, 7) and capture_error_mode == "thread_local"
            try:
                yield
                if fails is not None:
                    raise fails
            except RuntimeError:
                raise RuntimeError("CUDA error: operation failed due to a previous error during capture")  # noqa: B904
            graph.hold()

        monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: graph)
        monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 7))
        monkeypatch.setattr(torch.cuda, "graph", block)
        monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
        monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA T")
        return graph

    return install


def test_on_a_cpu_it_is_the_computation_itself():
    compute = Counting()
    direct = Captured(compute, SHAPE, "cpu")
    assert compute.calls == 0 and not direct.one_by_one
    found = direct(torch.full(SHAPE, 7, dtype=torch.uint8))
    assert found.score.tolist() == [7] * 4 and compute.calls == 1


@pytest.mark.parametrize("not_a_number", [False, True])
def test_a_captured_computation_is_compared_once_and_then_replayed(capture, not_a_number):
    compute = Counting(not_a_number)
    graph = capture(Graph(compute))
    replayed = captured(compute, torch.zeros(SHAPE, dtype=torch.uint8))
    assert (compute.calls, graph.replays, graph.resets) == (WARM_UP_CALLS + 2, 1, 0)
    first = replayed(torch.full(SHAPE, 3, dtype=torch.uint8))
    if not not_a_number:
        assert first.score.tolist() == [3] * 4
    second = replayed(torch.full(SHAPE, 5, dtype=torch.uint8))
    assert first is second and (compute.calls, graph.replays) == (WARM_UP_CALLS + 2, 3)


def test_a_graph_that_captured_nothing_is_an_error(capture):
    compute = Counting()
    capture(Graph(compute, empty=True))
    with pytest.raises(ReplayDiffers, match="must give the bits of a plain call; its score differs on NVIDIA T"):
        captured(compute, torch.zeros(SHAPE, dtype=torch.uint8))


def test_one_bit_less_is_an_error(capture):
    compute = Counting()
    graph = capture(Graph(compute))
    replay = graph.replay

    def wrong():
        replay()
        graph.results.anomaly_map[1, 0, 1] = torch.nextafter(graph.results.anomaly_map[1, 0, 1], torch.tensor(1e9))

    graph.replay = wrong
    with pytest.raises(ReplayDiffers, match="its anomaly_map differs"):
        captured(compute, torch.zeros(SHAPE, dtype=torch.uint8))


def test_what_cannot_be_captured_is_called_and_a_line_says_so(capture, monkeypatch):
    compute = Counting()
    graph = capture(Graph(compute), fails=RuntimeError("operation not permitted when stream is capturing"))
    warned, ended = [], []
    monkeypatch.setattr("pipeline.scoring.captured.log.warning", lambda text, *values: warned.append(text % values))
    for name in ("_cuda_endAllocateToPool", "_cuda_releasePool"):
        monkeypatch.setattr(torch._C, name, lambda *arguments, name=name: ended.append((name, *arguments)), raising=False)
    with stand_in():
        direct = Captured(compute, SHAPE, "cuda")
        direct(torch.ones(SHAPE, dtype=torch.uint8, device="cuda"))
    assert direct.one_by_one
    assert (compute.calls, graph.replays) == (WARM_UP_CALLS + 2, 0)
    (line,) = warned
    assert line.endswith("start one by one: operation not permitted when stream is capturing"), "the first error, not the last"
    assert graph.resets == 1
    assert ended == [("_cuda_endAllocateToPool", 0, (0, 7)), ("_cuda_releasePool", 0, (0, 7))]


def test_a_capture_that_torch_has_ended_itself_is_not_ended_twice(capture, monkeypatch):
    compute = Counting()
    capture(Graph(compute), fails=RuntimeError("not permitted"))

    def unknown(device, pool):
        raise RuntimeError("endAllocatePool: not currently recording to mempool_id")

    monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", unknown, raising=False)
    monkeypatch.setattr(torch._C, "_cuda_releasePool", lambda *arguments: pytest.fail("released twice"), raising=False)
    assert captured(compute, torch.zeros(SHAPE, dtype=torch.uint8)) is None


def test_a_capture_without_memory_is_the_devices_fault(capture, monkeypatch):
    compute = Counting()
    graph = capture(Graph(compute), fails=torch.OutOfMemoryError("CUDA out of memory"))
    monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", lambda *arguments: None, raising=False)
    monkeypatch.setattr(torch._C, "_cuda_releasePool", lambda *arguments: None, raising=False)
    with pytest.raises(torch.OutOfMemoryError, match="CUDA out of memory"):
        captured(compute, torch.zeros(SHAPE, dtype=torch.uint8))
    assert graph.resets == 1


def test_a_capture_without_memory_holds_none_when_the_cache_is_emptied(capture, monkeypatch):
    counting, held, at_emptying = Counting(), [], []
    capture(Graph(counting))
    monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", lambda *arguments: None, raising=False)
    monkeypatch.setattr(torch._C, "_cuda_releasePool", lambda *arguments: None, raising=False)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: at_emptying.append(held[WARM_UP_CALLS]()))

    def compute(images):
        cells = images.float()
        held.append(weakref.ref(cells))
        if len(held) == WARM_UP_CALLS + 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return counting(images)

    gc.disable()
    try:
        on_device(lambda: captured(compute, torch.zeros(SHAPE, dtype=torch.uint8)), "cuda", "the model")
    finally:
        gc.enable()
    assert at_emptying == [None]


def test_torch_still_has_what_ends_a_failed_capture():
    assert callable(torch._C._cuda_endAllocateToPool) and callable(torch._C._cuda_releasePool)
    assert callable(torch.cuda.CUDAGraph.reset)
