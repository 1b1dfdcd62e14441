"""The tile-disjoint splits of docs/benchmarks/accuracy/protocol.py, and the features that its runs share."""

import csv
from pathlib import Path

import docs_script
import pytest
import torch

from models.config import ArtifactConfig
from models.detector import Detector

ROWS = (
    ("train/good/a.jpg", "1", "0"),
    ("test/good/a.jpg", "1", "0"),
    ("train/good/b.jpg", "2", "1"),
    ("train/good/c.jpg", "3", "2"),
    ("test/crack/own.jpg", "9", ""),
    ("test/crack/of_tile_1.jpg", "1", "0"),  # its tile stands among the good images too
)


@pytest.fixture(scope="module")
def protocol():
    return docs_script.load("benchmarks/accuracy/protocol.py")


@pytest.fixture
def source(tmp_path) -> Path:
    folder = tmp_path / "source"
    for path, *_ in ROWS:
        name = Path(path)
        for file in (name, Path("ground_truth", name.parts[1], f"{name.stem}.png")):
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_text(path)
    with open(folder / "tiles.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path", "tile", "fold"), *ROWS])
    return folder


def held(tree: Path, below: str) -> set[str]:
    return {str(path.relative_to(tree)) for path in tree.glob(below)}


def test_the_published_split_is_the_source(protocol, source, tmp_path):
    assert protocol.tree_of(source, "published", tmp_path) == source


@pytest.mark.parametrize(
    ("fold", "trained", "good", "defects"),
    [
        (0, {"b", "c"}, {"train-a", "test-a"}, {"own", "of_tile_1"}),
        (1, {"train-a", "test-a", "c"}, {"b"}, {"own"}),
        (2, {"train-a", "test-a", "b"}, {"c"}, {"own"}),
    ],
)
def test_no_tile_and_no_defect_is_on_the_wrong_side(protocol, source, tmp_path, fold, trained, good, defects):
    tree = protocol.tree_of(source, f"fold-{fold}", tmp_path)
    named = {"b": "train-b", "c": "train-c"}
    assert held(tree, "train/*/*") == {f"train/good/{named.get(name, name)}.jpg" for name in trained}
    assert held(tree, "test/good/*") == {f"test/good/{named.get(name, name)}.jpg" for name in good}
    assert held(tree, "test/crack/*") == {f"test/crack/{name}.jpg" for name in defects}
    assert held(tree, "ground_truth/*/*") == {f"ground_truth/crack/{name}.png" for name in defects}
    with open(tree / "tiles.csv", newline="", encoding="utf-8") as file:
        tiles = {row["path"]: row["tile"] for row in csv.DictReader(file)}
    assert set(tiles) == held(tree, "train/*/*") | held(tree, "test/*/*")
    sides = [{tile for path, tile in tiles.items() if path.startswith(side)} for side in ("train", "test")]
    assert not sides[0] & sides[1]


def test_a_tree_of_other_rows_is_made_anew(protocol, source, tmp_path):
    tree = protocol.tree_of(source, "fold-1", tmp_path)
    stale = tree / "train/good/test-of_tile_1.jpg"
    stale.write_text("a defect")
    assert protocol.tree_of(source, "fold-1", tmp_path) == tree and stale.exists()  # the same rows: left as it is
    with open(tree / "tiles.csv", "a", newline="", encoding="utf-8") as file:
        csv.writer(file).writerow(("train/good/test-of_tile_1.jpg", "1"))
    protocol.tree_of(source, "fold-1", tmp_path)
    assert not stale.exists()


class Squares(Detector):
    def __init__(self, **config):
        super().__init__()
        self.config = ArtifactConfig(name="squares", **config)
        self.computed = 0


def squares(detector, images):
    detector.computed += len(images)
    return [images.float().square().mean(3, keepdim=True), images.float().mean((1, 2))]


def test_features_are_computed_once_an_image_and_configuration(tmp_path):
    extract = docs_script.load("benchmarks/accuracy/remembered.py").remembering(squares, tmp_path)
    images = torch.arange(4 * 2 * 2 * 3, dtype=torch.uint8).view(4, 2, 2, 3)
    first, again, other = Squares(), Squares(), Squares(hyperparameters={"scales": 2})
    expected = squares(Squares(), images)
    for detector, part in ((first, images), (again, images.flip(0))):
        for level, wanted in zip(extract(detector, part), expected, strict=True):
            assert torch.equal(level, wanted if detector is first else wanted.flip(0))
    extract(other, images)
    assert (first.computed, again.computed, other.computed) == (4, 0, 4)
    extract(again, torch.cat([images[:1], 255 - images[:1]]))
    assert again.computed == 1
