"""The draws of docs/benchmarks/accuracy/few_images.py: whole tiles, at most the asked images, the same for the same seed."""

import csv
import json
import sys
from pathlib import Path

import docs_script
import pytest

TILES = {f"t{tile}": 1 + tile % 5 for tile in range(20)}  # tile: images


@pytest.fixture
def few_images(monkeypatch):
    monkeypatch.syspath_prepend(str(docs_script.DOCS / "benchmarks" / "accuracy"))
    yield docs_script.load("benchmarks/accuracy/few_images.py")
    sys.modules.pop("protocol", None)


@pytest.fixture
def tree(tmp_path) -> Path:
    rows = [("path", "tile"), ("test/good/x.jpg", "t0")]
    for tile, images in TILES.items():
        rows += [(f"train/good/{tile}-{number}.jpg", tile) for number in range(images)]
    for path, _ in rows[1:]:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(path)
    with open(tmp_path / "tiles.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return tmp_path


@pytest.mark.parametrize("count", ["16", "32"])
def test_whole_tiles_are_drawn(few_images, tree, count):
    draws = [few_images.drawn(tree, count, seed) for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]
    for chosen in draws:
        assert int(count) - 1 <= len(chosen) <= int(count)
        names = [path.stem.partition("-")[0] for path in chosen]
        assert all(names.count(tile) == TILES[tile] for tile in names)
        assert all(path.is_file() and path.parent == tree / "train" / "good" for path in chosen)


def test_all_are_drawn_where_there_are_no_more(few_images, tree):
    assert len(few_images.drawn(tree, "128", 0)) == len(few_images.drawn(tree, "all", 0)) == sum(TILES.values())


def test_a_run_is_made_once_and_the_table_holds_it_beside_all_images(few_images, tree, tmp_path, monkeypatch):
    protocol, made = few_images.protocol, []

    def measured(tree, goods, model, detector, split, seed, own):
        assert own == {}, "the defaults"
        made.append(sorted(path.name for path in goods.iterdir()))
        return {"figures": {"all": {"image_auroc": {"value": 0.8 + 0.01 * seed}, "aupro": {"value": 0.5}}}}

    monkeypatch.setattr(few_images, "FEW", tmp_path / "few")
    monkeypatch.setattr(protocol, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(protocol, "tree_of", lambda source, split, folder: tree)
    monkeypatch.setattr(protocol, "measured", measured)
    folder = tmp_path / "work"
    folder.mkdir()
    for seed in (0, 1, 1):
        few_images.run(tree, folder, "padim", "fold-0", "16", seed)
    assert len(made) == 2 and made[0] == [path.name for path in few_images.drawn(tree, "16", 0)] and not list(folder.iterdir())
    kept = json.loads(few_images.file_of("padim", "fold-0", "16", 0).read_text())
    assert kept["trained_on"] == len(made[0])
    few_images.run(tree, folder, "padim", "fold-0", "all", 1)
    assert few_images.table().splitlines()[2:] == [
        "| padim | fold-0 | 80.5 [80.0, 81.0], AUPRO 50.0 | - | - | - | 81.0, AUPRO 50.0 |"
    ]
