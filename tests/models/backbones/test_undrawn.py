import logging
import threading

import pytest
import torch
from torch import Tensor, nn

from models.backbones.undrawn import do_weights_follow, undrawn, weights_follow
from models.backbones.weights import BackboneError


class Tables(nn.Module):
    """A weight, a table from the arguments and, as in Swin, one on the weight's device."""

    def __init__(self, again: bool):
        super().__init__()
        self.layer = nn.Linear(3, 3)
        self.register_buffer("index", torch.arange(3), persistent=False)
        self.table = torch.ones(2)
        if again:
            self.init_non_persistent_buffers = self._make
        self._make()

    def _make(self) -> None:
        self.register_buffer("mask", torch.ones(3, device=self.layer.weight.device), persistent=False)


class Measured(nn.Module):
    """It reads a value of its weights while it is built."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)
        self.scale = float(self.layer.weight.detach().abs().max())


class Listed(nn.Module):
    """It reads all values of its weights while it is built."""

    def __init__(self, by_numpy: bool):
        super().__init__()
        self.layer = nn.Linear(3, 3)
        weight = self.layer.weight.detach()
        self.values = weight.numpy().tolist() if by_numpy else weight.tolist()


def test_nothing_is_drawn():
    state = torch.get_rng_state()
    module = undrawn(lambda: nn.Sequential(nn.Linear(100, 100), nn.Conv2d(3, 4, 3)))
    assert torch.equal(torch.get_rng_state(), state)
    assert [x.shape for x in module[1].parameters()] == [(4, 3, 3, 3), (4,)]
    assert all(not x.is_meta and x.requires_grad for x in module.parameters())
    nn.Linear(100, 100)
    assert not torch.equal(torch.get_rng_state(), state), "a layer that is built as usual draws"


def test_tables_are_made(caplog):
    module = undrawn(lambda: Tables(again=True))
    assert [module.index.tolist(), module.table.tolist(), module.mask.tolist()] == [[0, 1, 2], [1, 1], [1, 1, 1]]
    assert caplog.records == []


def test_what_cannot_do_without_weights_is_built_as_usual_and_one_line_says_so(caplog):
    caplog.set_level(logging.WARNING)
    assert undrawn(Measured).scale > 0
    assert undrawn(lambda: Tables(again=False)).mask.tolist() == [1, 1, 1]
    first, second = [record.getMessage() for record in caplog.records]
    assert "random weights are drawn before its own are read" in first and "meta" in first and "\n" not in first
    assert "(mask was made from the weights)" in second


@pytest.mark.parametrize("by_numpy", [False, True])
def test_what_reads_all_values_is_built_as_usual(by_numpy, caplog):
    def told() -> nn.Module:
        try:
            return Listed(by_numpy)
        except TypeError as error:
            raise BackboneError(f"backbone_kwargs must be arguments; {error}") from error

    for build in (lambda: Listed(by_numpy), told):
        assert len(undrawn(build).values) == 3
    assert len(caplog.records) == 2


def test_another_thread_builds_as_usual_meanwhile():
    found: list[Tensor] = []

    def build() -> nn.Module:
        thread = threading.Thread(target=lambda: found.append(nn.Linear(3, 3).weight))
        thread.start()
        thread.join()
        return nn.Linear(3, 3)

    undrawn(build)
    assert not found[0].is_meta and found[0].abs().max() > 0


def test_it_is_this_thread_whose_weights_follow():
    seen: list[bool] = []
    with weights_follow():
        thread = threading.Thread(target=lambda: seen.append(do_weights_follow()))
        thread.start()
        thread.join()
        assert do_weights_follow()
    assert seen == [False] and not do_weights_follow()
