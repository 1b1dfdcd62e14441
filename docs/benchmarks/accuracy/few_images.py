"""How the detectors do with few good images: learning curves on the magnetic tiles.

    python docs/benchmarks/accuracy/few_images.py FOLDER [--detector NAME ...] [--split NAME ...] [--count N ...] [--seed N ...]
    python docs/benchmarks/accuracy/few_images.py --table

Of a split's good training images so many are drawn, by whole tiles: all exposures of a tile or none, since that is how few
pieces come. The draw depends on split and seed. All settings are the defaults, but no images are kept to calibrate; each
model is looked at once. A run that has its file in docs/benchmarks/accuracy/few is not repeated, so the command may be
stopped and given again. Needs FLOWSCORE_ASSETS.
"""

import argparse
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import protocol  # beside this file

FEW = Path(__file__).resolve().parent / "few"
DETECTORS = tuple(name for name in protocol.DETECTORS if name != "gaussian")
ALL = "all"
COUNTS = ("16", "32", "64", "128", ALL)  # images
SPLITS = ("published", "fold-0")


def drawn(tree: Path, count: str, seed: int) -> list[Path]:
    """Good training images of the tree, by whole tiles in random order; a tile that would be too many is passed over."""
    rows = [(path, tile) for path, tile in protocol.tiles_of(tree).items() if path.startswith("train/good/")]
    tiles: dict[str, list[Path]] = {}
    for path, tile in sorted(rows):
        tiles.setdefault(tile, []).append(tree / path)
    chosen: list[Path] = []
    for number in np.random.default_rng(seed).permutation(len(tiles)):
        images = tiles[sorted(tiles)[number]]
        if count == ALL or len(chosen) + len(images) <= int(count):
            chosen += images
    return sorted(chosen)


def run(source: Path, folder: Path, detector: str, split: str, count: str, seed: int) -> None:
    """Train on so many images, evaluate on the split's test images, and keep the figures."""
    target = file_of(detector, split, count, seed)
    if target.is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    tree = protocol.tree_of(source, split, folder)
    goods = drawn(tree, count, seed)
    with tempfile.TemporaryDirectory(prefix="few-", dir=folder) as few:
        for path in goods:
            shutil.copyfile(path, Path(few) / path.name)
        model = folder / "models" / f"{detector}-{split}-{count}-{seed}"
        found = protocol.measured(tree, Path(few), model, detector, split, seed, {})
    protocol.keep(target, found | {"trained_on": len(goods)})


def file_of(detector: str, split: str, count: str, seed: int) -> Path:
    return FEW / detector / f"{split}-{count}-seed-{seed}.json"


def table() -> str:
    """Markdown: a row a detector and split; image AUROC and AUPRO in percent, means over the seeds that are there."""
    header = [
        f"detector | split | {' | '.join(count if count == ALL else f'{count} images' for count in COUNTS)}",
        "|".join(["---"] * (2 + len(COUNTS))),
    ]
    rows = []
    for detector in DETECTORS:
        for split in SPLITS:
            seeds = sorted({int(path.stem.rpartition("-")[2]) for path in (FEW / detector).glob(f"{split}-*.json")})
            if not seeds:
                continue
            cells = [_cell([_kept(detector, split, count, seed) for seed in seeds]) for count in COUNTS]
            rows.append(" | ".join([detector, split, *cells]))
    return "\n".join(f"| {line} |" for line in [*header, *rows])


def _kept(detector: str, split: str, count: str, seed: int) -> Path:
    """The run's file; of all images that of the protocol, of a flow without its head, until there is one here."""
    own = file_of(detector, split, count, seed)
    return protocol.RUNS / detector / f"{split}-seed-{seed}.json" if count == ALL and not own.is_file() else own


def _cell(paths: list[Path]) -> str:
    """`86.1 [85.0, 87.0], AUPRO 40.2`: the mean, and the lowest and highest seed where there are several."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in paths if path.is_file()]
    if not found:
        return "-"
    aurocs, aupros = (_figures(found, name) for name in ("image_auroc", "aupro"))
    spread = f" [{min(aurocs):.1f}, {max(aurocs):.1f}]" if len(aurocs) > 1 else ""
    return f"{np.mean(aurocs):.1f}{spread}, AUPRO {np.mean(aupros):.1f}"


def _figures(found: list[dict[str, Any]], name: str) -> list[float]:
    return [100 * report["figures"]["all"][name]["value"] for report in found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--detector", nargs="+", choices=DETECTORS, default=DETECTORS)
    parser.add_argument("--split", nargs="+", choices=SPLITS, default=SPLITS)
    parser.add_argument("--count", nargs="+", choices=COUNTS, default=COUNTS)
    parser.add_argument("--seed", nargs="+", type=int, default=[0])
    parser.add_argument("--table", action="store_true", help="print the table of the runs that are there, and train nothing")
    asked = parser.parse_args()
    if asked.folder is None and not asked.table:
        parser.error("FOLDER must be given, for trees and models")
    if not asked.table:
        source = Path(os.environ["FLOWSCORE_ASSETS"]) / "assets" / "mtd"
        for seed in asked.seed:
            for split in asked.split:
                for count in asked.count:
                    for detector in asked.detector:
                        run(source, asked.folder.resolve(), detector, split, count, seed)
    print(table())


if __name__ == "__main__":
    main()
