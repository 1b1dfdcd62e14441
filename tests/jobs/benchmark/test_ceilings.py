import pytest

from jobs.benchmark.ceilings import Ceilings, measure


def test_what_takes_longest_is_the_roof():
    ceilings = Ceilings({"float32": 100.0, "bfloat16": 400.0}, 10.0)
    assert ceilings.least_seconds({"float32": 100, "bfloat16": 200}, 0) == pytest.approx(1.5)
    assert ceilings.least_seconds({"float32": 100}, 50) == 5


def test_a_device_has_ceilings():
    found = measure("cpu", seconds=0.01)
    assert set(found.flops_per_s) == {"float32", "bfloat16", "float16"}
    assert min(*found.flops_per_s.values(), found.bytes_per_s) > 1e8
