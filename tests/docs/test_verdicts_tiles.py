"""What docs/benchmarks/verdicts/tiles.py makes of scores: the interval, who is judged, and what the tables say."""

import csv
from fractions import Fraction
from pathlib import Path

import docs_script
import numpy as np
import pytest
from scipy.stats import betabinom

RATE = Fraction("0.1")


@pytest.fixture(scope="module")
def benchmark():
    return docs_script.load("benchmarks/verdicts/tiles.py")


def rows(benchmark, part: str, tiles: int, images: int, rng: np.random.Generator, shift: float = 0.0, fold: int = 0):
    """Images of tiles that are alike; scores of different tiles differ."""
    own = rng.normal(size=(tiles, 1)) + shift
    scores = (own + 0.3 * rng.normal(size=(tiles, images))).astype(np.float32)
    return [
        benchmark.Row(fold, "padim", part, f"{part} {images} {tile}", score) for tile, of in enumerate(scores) for score in of
    ]


def model(benchmark, fold: int = 0):
    """70 fitted tiles whose scores are too low, 40 + 8 for calibration, 28 + 5 new ones, 30 defective ones."""
    rng = np.random.default_rng(fold)
    sets = [
        (benchmark.SEEN, 60, 6, -3.0),
        (benchmark.SEEN, 10, 1, -3.0),
        (benchmark.CALIBRATION, 40, 6, 0.0),
        (benchmark.CALIBRATION, 8, 1, 0.0),
    ]
    sets += [(benchmark.GOOD, 28, 6, 0.0), (benchmark.GOOD, 5, 1, 0.0), (benchmark.BAD, 30, 6, 2.0), (benchmark.BAD, 7, 3, 2.0)]
    return [row for part, tiles, images, shift in sets for row in rows(benchmark, part, tiles, images, rng, shift, fold)]


def test_the_interval_is_that_of_the_beta_binomial(benchmark):
    low, high, mean = benchmark.interval([28], [42], RATE)
    counts = betabinom(28, 4, 39)
    assert (low, high) == tuple(counts.ppf((0.005, 0.995))) and mean == pytest.approx(28 * 4 / 43)


def test_the_interval_of_two_image_counts_is_that_of_their_sum(benchmark):
    rng, draws = np.random.default_rng(0), 200_000
    found = np.zeros(draws, int)
    for m, n, j in ((28, 42, 8), (5, 7, 1)):
        found += rng.binomial(m, rng.beta(j, n + 1 - j, draws))
    low, high, mean = benchmark.interval([28, 5], [42, 7], Fraction("0.2"))
    assert (found < low).mean() <= 0.005 + 0.001 >= (found > high).mean()
    assert (found <= low).mean() > 0.005 - 0.001 < (found >= high).mean()
    assert mean == pytest.approx(found.mean(), rel=0.02)


def test_an_image_count_that_cannot_keep_the_rate_has_no_part(benchmark):
    assert benchmark.interval([28, 5], [42, 7], RATE) == benchmark.interval([28], [42], RATE)


def test_cells_count_whole_tiles(benchmark):
    five, ten, twenty = benchmark.cells(model(benchmark), benchmark.CALIBRATION)
    assert [cell.calibration for cell in (five, ten, twenty)] == [(40,), (40,), (40, 8)]
    assert [(cell.judged, cell.bad, cell.not_judged) for cell in (five, twenty)] == [(28, 30, (5, 7)), (33, 30, (0, 7))]
    assert ten.inside() and ten.expected == pytest.approx(28 * 4 / 41)
    # By hand: the fourth largest of 40 calibration tiles, each as its largest image.
    largest: dict[tuple[str, str], float] = {}
    for row in model(benchmark):
        if row.tile.split()[-2] == "6":
            largest[row.set, row.tile] = max(largest.get((row.set, row.tile), -np.inf), float(row.score))
    of = {part: np.array([score for (own, _), score in largest.items() if own == part]) for part in benchmark.SETS}
    limit = np.sort(of[benchmark.CALIBRATION])[-4]
    assert ten.false_calls == (of[benchmark.GOOD] > limit).sum() and ten.escapes == (of[benchmark.BAD] <= limit).sum()


def test_tiles_that_the_model_has_seen_are_shown_failing(benchmark):
    assert all(cell.false_calls > cell.high for cell in benchmark.cells(model(benchmark), benchmark.SEEN))


def test_scores_survive_the_file_and_the_tables_close_with_counts(benchmark, tmp_path):
    both = model(benchmark, fold=1) + model(benchmark, fold=0)
    benchmark.write(tmp_path / "tiles.csv", both)
    again = benchmark.read(tmp_path / "tiles.csv")
    assert sorted(again) == sorted(both) and [row.fold for row in again] == sorted(row.fold for row in both)
    text = benchmark.tables(again)
    assert "6 cells: 6 inside their interval, 0 above, 0 below." in text
    assert "6 cells: 0 inside their interval, 6 above, 0 below." in text


def test_trees_keep_tiles_apart(benchmark, tmp_path):
    """Tile 1 is new in fold 0; tile 3 has a defect, so its good image is in no tree."""
    source = tmp_path / "source"
    listed = [("train/good/a.jpg", "1", "0"), ("test/good/a.jpg", "1", "0"), ("train/good/b.jpg", "2", "1")]
    listed += [("train/good/c.jpg", "3", "0"), ("test/crack/d.jpg", "3", ""), ("test/crack/e.jpg", "9", "")]
    for path, *_ in listed:
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        (source / path).write_text(path)
    with open(source / "tiles.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path", "tile", "fold"), *listed])
    found = [
        sorted(str(path.relative_to(tree)) for path in Path(tree).rglob("*.jpg"))
        for tree in benchmark.trees(source, 0, tmp_path / "trees")
    ]
    assert found == [
        ["2/train-good-b.jpg"],
        ["1/test-good-a.jpg", "1/train-good-a.jpg"],
        ["3/test-crack-d.jpg", "9/test-crack-e.jpg"],
    ]


def test_the_figures_are_those_of_the_scores(benchmark):
    """tiles.md is what the script makes of tiles.csv."""
    text = benchmark.tables(benchmark.read(benchmark.HERE / "tiles.csv"))
    assert text in (benchmark.HERE / "tiles.md").read_text(encoding="utf-8")
