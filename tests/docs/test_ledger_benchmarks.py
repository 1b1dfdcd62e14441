"""The scripts of docs/benchmarks/ledger, with few objects: what they make up is what the product reads."""

import docs_script
import numpy as np
import pytest

from pipeline.state.ledger import Ledger


@pytest.fixture
def load(monkeypatch):
    monkeypatch.syspath_prepend(docs_script.DOCS / "benchmarks" / "ledger")
    return lambda name: docs_script.load(f"benchmarks/ledger/{name}.py")


def test_the_inventory(load, tmp_path):
    figures = load("inventory").measure(Ledger(str(tmp_path), "csflow"), 20_000)
    assert figures["objects"] == 20_000 and figures["bytes_per_object"] > 16


@pytest.mark.parametrize("map_side", [0, 3])
def test_the_large_slice(load, tmp_path, map_side):
    script = load("large_slice")
    month = script.Month(Ledger(str(tmp_path), script.MODEL), images=3100, unit=70, map_side=map_side)
    script.create(month.ledger)
    assert script.seal(month, np.arange(month.images), 0) == 3
    first = script.publish(month, 3, map)
    assert (first["scored"], first["files_of_scores"], (tmp_path / "maps").exists()) == (3100, 1, bool(map_side))
    assert script.check(month.ledger) == {"rows": 3100, "image_ids": 3100, "partitions": 1}
    for night in (0, 1):
        assert script.night(month, night, map)["files_of_scores"] == 2
    assert script.compaction(month.ledger)["merged"]["scores"] == (3, 1)
    assert script.check(month.ledger) == {"rows": 3280, "image_ids": 3280, "partitions": 1}
