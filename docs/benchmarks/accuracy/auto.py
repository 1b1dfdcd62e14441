"""Does `train --detector auto` choose well? Its criterion beside the figures of defects that it has not drawn.

    python docs/benchmarks/accuracy/auto.py FOLDER [--split NAME ...] [--seed N ...]
    python docs/benchmarks/accuracy/auto.py FOLDER --table

On the published split and every tile-disjoint fold of protocol.py and every surface of surfaces.py, all candidates are fitted
to nine tenths of the good training images, as auto fits them before it chooses, and examined by synthetic defects on the
tenth. The same fits then score the test images. A run keeps the scores of every member in docs/benchmarks/accuracy/auto, and is
not repeated when its file is there; runs of one split share the features of its images.

auto_tables.py makes the tables of all runs that are there. No model is chosen or kept by these figures. Needs FLOWSCORE_ASSETS.
"""

import argparse
import json
import os
import tempfile
from pathlib import Path

import numpy as np
import protocol  # beside this file, as the next two
import surfaces
import torch
from auto_tables import RUNS, SURFACE, against_flows_alone, agreement, kinds, names, table
from PIL import Image
from torch import Tensor

from jobs.training.auto import CANDIDATES, Examined
from models import registry
from models.config import ArtifactConfig
from models.detector import FitRun
from models.detectors.ensemble import Ensemble
from models.features.store import ImageFeatures
from models.fitting.groups import split
from models.maps.grids import resized
from models.metrics.aupro import AuproCurve, binary_mask
from pipeline.decode.config import DecodeConfig
from pipeline.decode.image import decode_image

SPLITS = [*protocol.SPLITS, *(f"{SURFACE}{name}" for name in surfaces.SURFACES)]
SELECTION_SHARE = 0.1
BATCH = 16


def run(source: Path, folder: Path, name: str, seeds: list[int]) -> None:
    """Fit, examine and score, and keep all scores."""
    targets = {seed: RUNS / f"{name}-seed-{seed}.json" for seed in seeds}
    missing = {seed: target for seed, target in targets.items() if not target.is_file()}
    if not missing:
        return
    surface = name.removeprefix(SURFACE)
    tree = surfaces.tree(surface, folder) if name != surface else protocol.tree_of(source, name, folder)
    tile = protocol.tiles_of(tree)
    train = sorted(path for path in tile if path.startswith("train/"))
    test = sorted(path for path in tile if path.startswith("test/"))
    config = ArtifactConfig(name="auto", detector="ensemble", precision="bf16", hyperparameters=CANDIDATES)
    detector = registry.build(config)
    assert isinstance(detector, Ensemble)
    members = [member["detector"] for member in CANDIDATES["members"]]
    with (
        tempfile.TemporaryDirectory() as scratch,
        ImageFeatures(detector, Path(scratch), "good") as images,
        ImageFeatures(detector, Path(scratch), "test") as tests,
    ):
        for paths, features in ((train, images), (test, tests)):
            for start in range(0, len(paths), BATCH):
                features.append(pixels(tree, paths[start : start + BATCH], config))
        for seed, target in missing.items():
            drawn = split([tile[path] for path in train], (0.0, SELECTION_SHARE), seed)
            _, selection, fitting = (torch.from_numpy(x) for x in drawn)
            detector = registry.build(config)  # as untrained as the first
            assert isinstance(detector, Ensemble)
            exam = Examined()
            exam.take(detector, images, fitting, selection, FitRun(detector.Training(), seed), Path(scratch))
            detector.fit_constants(images, selection)  # of maps; the scores' own are in the exam
            detector.freeze()
            scores, aupro = scored(detector, members, tree, test, tests)
            found = {
                "groups": [tile[train[i]] for i in selection.tolist()],
                "exam": {
                    member: {"good": one.good.tolist(), "defects": {family: x.tolist() for family, x in one.defects.items()}}
                    for member, one in zip(members, exam.scores, strict=True)
                },
                "test": [[path, tile[path], *row] for path, row in zip(test, scores, strict=True)],
                "aupro": aupro,
            }
            RUNS.mkdir(exist_ok=True)
            target.write_text(json.dumps(found, separators=(",", ":"), allow_nan=False) + "\n", encoding="utf-8")


def scored(
    detector: Ensemble, members: list[str], tree: Path, test: list[str], features: ImageFeatures
) -> tuple[list[list[float]], dict[str, dict[str, float]]]:
    """Every member's score of every test image, and every candidate's AUPRO to both rates."""
    scores: list[list[float]] = []
    curves = {name: AuproCurve() for name in names(members)}
    for numbers in torch.arange(len(test)).split(BATCH):
        part = [test[i] for i in numbers]
        with torch.inference_mode():
            found = detector.of_members(features.read(numbers))
        scores += torch.stack([one.score for one in found], 1).tolist()
        maps = [(one.anomaly_map - a) / b for one, a, b in zip(found, detector.map_mean, detector.map_std, strict=True)]
        for i, path in enumerate(part):
            mask = mask_of(tree, path)
            for name, curve in curves.items():
                own = [maps[members.index(member)][i] for member in name.split(" + ")]
                curve.add(resized(torch.stack(own).mean(0)[None], mask.shape)[0].numpy(), mask)
    return scores, {name: {f"{rate:g}": curve.area(rate) for rate in (0.3, 0.05)} for name, curve in curves.items()}


def mask_of(tree: Path, path: str) -> np.ndarray:
    """(H, W) bool; of a good image nothing."""
    kind, stem = Path(path).parts[1], Path(path).stem
    if kind == "good":
        with Image.open(tree / path) as image:
            return np.zeros((image.height, image.width), bool)
    place = tree / "ground_truth" / kind
    with Image.open(next(each for each in (place / f"{stem}.png", place / f"{stem}_mask.png") if each.is_file())) as image:
        return binary_mask(np.array(image.convert("L")))


def pixels(tree: Path, paths: list[str], config: ArtifactConfig) -> Tensor:
    """(N, H, W, 3) uint8."""
    decode = DecodeConfig.of(config.input)
    return torch.from_numpy(np.stack([np.array(decode_image((tree / path).read_bytes(), decode).pixels) for path in paths]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--split", nargs="+", choices=SPLITS, default=SPLITS)
    parser.add_argument("--seed", nargs="+", type=int, default=protocol.SEEDS)
    parser.add_argument("--table", action="store_true", help="print the table of the runs that are there, and fit nothing")
    asked = parser.parse_args()
    if not asked.table:
        source = Path(os.environ["FLOWSCORE_ASSETS"]) / "assets" / "mtd"
        for name in asked.split:
            run(source, asked.folder.resolve(), name, asked.seed)
    print("\n\n".join([table("published"), table("fold"), kinds(), against_flows_alone(), table(SURFACE), agreement()]))


if __name__ == "__main__":
    main()
