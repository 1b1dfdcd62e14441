"""How many pieces a held-out set has, and what its threshold for 5 % calls of new ones: with and without large groups last.

    PYTHONPATH=. python docs/benchmarks/accuracy/held_out.py FOLDER [--split NAME ...] [--seed N ...]

The groups are those that `train` finds by thumbnails in a fold of protocol.py, and the sets those of its default shares, as
`models/fitting/groups.py` draws them; `in random order` is what it did until 2026-11-30. PaDiM (100 dimensions) is fitted to
what is left. The threshold is the score that at most 5 % of the calibration images reach; false calls are the good test
images, of other tiles, above it. Needs FLOWSCORE_ASSETS.
"""

import argparse
import os
from collections.abc import Sequence
from math import ceil
from pathlib import Path

import numpy as np
import protocol  # beside this file, as auto
import torch
from auto import pixels
from numpy.typing import NDArray

from models import registry
from models.config import ArtifactConfig
from models.detector import Detector, FitRun
from models.fitting.groups import group_images, split, thumbnails
from models.maps.grids import Maps

CONFIG = ArtifactConfig(name="held-out", detector="padim", hyperparameters={"dims": 100})
SHARES = (0.2, 0.1)
BATCH = 16


class Stored:
    """Features in memory."""

    def __init__(self, detector: Detector, images: torch.Tensor):
        parts = [detector.extract(part) for part in images.split(BATCH)]
        self.maps = [torch.cat(level) for level in zip(*parts, strict=True)]

    def read(self, positions: torch.Tensor) -> Maps:
        return [level[positions] for level in self.maps]

    def scores(self, detector: Detector, positions: torch.Tensor) -> NDArray[np.float32]:
        with torch.inference_mode():
            return torch.cat([detector.score_features(self.read(part)).score for part in positions.split(BATCH)]).numpy()


def in_random_order(groups: Sequence[str], shares: Sequence[float], seed: int) -> list[NDArray[np.int64]]:
    """As `split`, but a large group comes when its turn is."""
    names, code = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    sizes = np.bincount(code, minlength=len(names))
    order, sets = np.random.default_rng(seed).permutation(len(names)), []
    for share in shares:
        count, taken = 0, 0
        while count < len(order) - 1 and taken + sizes[order[count]] / 2 < share * len(code):
            taken += int(sizes[order[count]])
            count += 1
        sets.append(np.flatnonzero(np.isin(code, order[:count])))
        order = order[count:]
    return [*sets, np.flatnonzero(np.isin(code, order))]


def run(tree: Path, name: str, seeds: Sequence[int]) -> None:
    folders = (tree / "train" / "good", tree / "test" / "good")
    names = [sorted(path.name for path in folder.iterdir()) for folder in folders]
    goods, tests = (pixels(folder, some, CONFIG) for folder, some in zip(folders, names, strict=True))
    tiles = protocol.tiles_of(tree)
    tile = [tiles[f"train/good/{one}"] for one in names[0]]
    groups = group_images(None, None, thumbnails(goods)).names
    fresh = registry.build(CONFIG)
    stored, others = Stored(fresh, goods), Stored(fresh, tests)
    for seed in seeds:
        for order, draw in (("in random order", in_random_order), ("large ones last", split)):
            calibration, selection, fit = draw(groups, SHARES, seed)
            detector = registry.build(CONFIG)
            detector.fit(stored, torch.from_numpy(np.concatenate([fit, selection])), FitRun(detector.Training(), seed))
            own = np.sort(stored.scores(detector.freeze(), torch.from_numpy(calibration)))
            threshold = own[min(ceil(0.95 * (len(own) + 1)), len(own)) - 1]
            calls = float((others.scores(detector, torch.arange(len(tests))) > threshold).mean())
            sizes = [f"{len(part)} images of {len({groups[i] for i in part})} groups" for part in (calibration, selection)]
            others_tiles = {tile[i] for i in np.concatenate([fit, selection])}
            known = sum(tile[i] in others_tiles for i in calibration)
            print(
                f"{name}, seed {seed}, {order}: calibration {sizes[0]}, {known} of them of tiles that the others show too; "
                f"selection {sizes[1]}; false calls {calls:.1%}",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--split", nargs="+", choices=protocol.SPLITS, default=["fold-0", "fold-1", "fold-2"])
    parser.add_argument("--seed", nargs="+", type=int, default=list(range(6)))
    asked = parser.parse_args()
    source = Path(os.environ["FLOWSCORE_ASSETS"]) / "assets" / "mtd"
    for name in asked.split:
        run(protocol.tree_of(source, name, asked.folder.resolve()), name, asked.seed)


if __name__ == "__main__":
    main()
