import contextlib

import torch
from cuda_stand_in import stand_in

from models.detector import Scored
from pipeline.scoring.captured import WARM_UP_CALLS, Captured

SHAPE = (4, 2, 2, 3)


class Counting:
    """A computation that counts its calls."""

    def __init__(self):
        self.calls = 0

    def __call__(self, images):
        self.calls += 1
        cells = images.float().mean(3)  # (B, 2, 2)
        return Scored(cells.mean((1, 2)), cells, cells.new_zeros(len(images), 32))


class Graph:
    """In place of torch.cuda.CUDAGraph."""

    replays = 0

    def replay(self):
        Graph.replays += 1


def test_on_a_cpu_it_is_the_computation_itself():
    compute = Counting()
    captured = Captured(compute, SHAPE, "cpu")
    assert compute.calls == 0
    found = captured(torch.full(SHAPE, 7, dtype=torch.uint8))
    assert found.score.tolist() == [7] * 4 and compute.calls == 1


def test_a_captured_computation_is_replayed_and_not_called_again(monkeypatch):
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", lambda graph, capture_error_mode: contextlib.nullcontext())
    monkeypatch.setattr(Graph, "replays", 0)
    compute = Counting()
    with stand_in():
        captured = Captured(compute, SHAPE, "cuda")
        assert (compute.calls, Graph.replays) == (WARM_UP_CALLS + 1, 0)
        images = torch.ones(SHAPE, dtype=torch.uint8, device="cuda")
        first, second = captured(images), captured(images)
    assert (compute.calls, Graph.replays) == (WARM_UP_CALLS + 1, 2)
    assert first is second and first.score.device.type == "cuda"


def test_what_cannot_be_captured_is_called_and_a_line_says_so(monkeypatch):
    @contextlib.contextmanager
    def refuse(graph, capture_error_mode):
        yield
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", refuse)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    monkeypatch.setattr(Graph, "replays", 0)
    warned = []
    monkeypatch.setattr("pipeline.scoring.captured.log.warning", lambda text, *values: warned.append(text % values))
    compute = Counting()
    with stand_in():
        captured = Captured(compute, SHAPE, "cuda")
        captured(torch.ones(SHAPE, dtype=torch.uint8, device="cuda"))
    assert (compute.calls, Graph.replays) == (WARM_UP_CALLS + 2, 0)
    (line,) = warned
    assert "does not run as a CUDA graph" in line and "not permitted" in line
