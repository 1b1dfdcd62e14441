"""docs/benchmarks/reliability/bad_images.py with 2,000 images: every image gets a row at every rate of bad images."""

import importlib
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "docs" / "benchmarks" / "reliability"


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("bad_images")


@pytest.mark.parametrize("source", ["files", "tar"])
def test_every_way_to_be_bad_is_made_and_told_apart(bench, source, tmp_path):
    expected = bench.WRITERS[source](tmp_path / "bad", 1000, True)
    assert len(expected) == 20 == len({way["way"] for way in bench.ways(source, 1000)}) == len(set(expected))
    assert bench.WRITERS[source](tmp_path / "clean", 1000, False) == []
    told = [(way["stage"], way["error"], way["byte_offset"]) for way in bench.ways(source, 1000)]
    made = sorted((row.stage, row.error, row.byte_offset is not None) for row in expected)
    assert made == sorted(told)


@pytest.mark.slow
@pytest.mark.parametrize("source", ["files", "tar"])
def test_one_percent_of_bad_images_in_twenty_ways(bench, model, source, tmp_path):
    result = bench.measure(tmp_path / "bench", 2000, source, 1, model)
    assert [run["wrong"] for run in result["runs"]] == [[], []] and result["as_expected"]
    assert (result["bad"], len(result["ways"])) == (20, 20)
    assert result["with_byte_offset"] == (8 if source == "tar" else 0)
