import pytest
import torch

from jobs.benchmark import ceilings
from jobs.benchmark.ceilings import Ceilings, measure


def test_what_takes_longest_is_the_roof():
    ceilings = Ceilings({"float32": 100.0, "bfloat16": 400.0}, 10.0)
    assert ceilings.least_seconds({"float32": 100, "bfloat16": 200}, 0) == pytest.approx(1.5)
    assert ceilings.least_seconds({"float32": 100}, 50) == 5


def test_the_numbers_that_are_multiplied_and_copied_are_random(monkeypatch):
    """A GPU multiplies ones with less power, and so faster, than what a model holds."""
    used = {}
    monkeypatch.setitem(ceilings.SIDE, "cpu", 128)
    monkeypatch.setitem(ceilings.COPIED_BYTES, "cpu", 1 << 16)
    monkeypatch.setattr(ceilings, "_best", lambda computation, device, seconds: used.setdefault(len(used), computation) and 1.0)
    measure("cpu")
    *products, copy = used.values()
    kinds = []
    for product in products:
        for operand in product.args:
            kinds.append(operand.dtype)
            assert operand.float().std() == pytest.approx(1, rel=0.01)
    assert kinds == [torch.float32] * 2 + [torch.bfloat16] * 2
    assert copy().unique().numel() > 1000


def test_a_device_has_ceilings():
    found = measure("cpu", seconds=0.01)
    assert set(found.flops_per_s) == {"float32", "bfloat16", "float16"}
    assert min(*found.flops_per_s.values(), found.bytes_per_s) > 1e8
