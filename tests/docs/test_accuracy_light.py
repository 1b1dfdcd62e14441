"""The tables of docs/benchmarks/accuracy/light.py, from made-up runs."""

import sys

import pytest
from docs_script import DOCS, load


@pytest.fixture
def light(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(DOCS / "benchmarks" / "accuracy"))
    yield load("benchmarks/accuracy/light.py")
    sys.modules.pop("protocol", None)


def report(strength: float, seed: int, scores: list[float], calls: float, shading: bool = False) -> dict:
    named = [(f"test/{'good' if i < 4 else 'hole'}/{i}.png", f"tile {i // 2}") for i in range(8)]
    figures = {"image_auroc": {"value": 0.5 + seed / 10}, "false_calls": {"value": calls}}
    return {
        "light": strength,
        "copies": 1,
        "shading": shading,
        "seed": seed,
        "input": "fold-0",
        "stress": {"rows": [{"altered": "unaltered", **figures}, {"altered": "gradient 40 %", **figures}]},
        "scores": [[path, score, group] for (path, group), score in zip(named, scores, strict=True)],
    }


def test_a_column_a_way_means_over_seeds_and_the_paired_difference(light) -> None:
    perfect, mixed = [0, 1, 2, 3, 4, 5, 6, 7], [0, 1, 2, 5, 4, 3, 6, 7]
    runs = [report(0.0, 0, mixed, 0.4), report(0.0, 1, mixed, 0.2), report(0.4, 0, perfect, 0.1), report(0.4, 1, mixed, 0.1)]
    runs += [report(0.0, 0, perfect, 0.0, shading=True), report(0.4, 0, mixed, 0.0, shading=True)]
    lines = light.table(runs)
    assert lines[0].split("  ")[0] == "altered" and "light 0.4: false calls" in lines[0]
    assert lines[2].split() == ["gradient", "40", "%", "55.0", "30.0", "50.0", "0.0", "55.0", "10.0", "50.0", "0.0"]
    assert lines[-4] == "runs: light 0: 2, shading: 1, light 0.4: 2, light 0.4 + shading: 1"
    # Two of 16 pairs are ranked wrongly by `mixed`: 12.5 points in one of two seeds.
    assert lines[-3].startswith("shading: unaltered AUROC +12.5 (")
    assert lines[-2].startswith("light 0.4: unaltered AUROC +6.2 (")
    assert lines[-1].startswith("light 0.4 + shading: unaltered AUROC +0.0 (")


def test_a_split_counts_once_however_many_seeds_it_has(light) -> None:
    scores = [0, 1, 2, 3, 4, 5, 6, 7]
    runs = [report(0.0, seed, scores, calls) for seed, calls in ((0, 0.3), (1, 0.2), (2, 0.1))]
    runs.append(report(0.0, 0, scores, 0.0) | {"input": "fold-1"})
    assert light.table(runs)[2].split() == ["gradient", "40", "%", "55.0", "10.0"]
