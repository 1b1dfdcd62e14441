"""What `train --light` and `--shading-correction` do for a model in other light: magnetic tiles, trained without and with them,
then `evaluate --stress`.

    python docs/benchmarks/accuracy/light.py FOLDER [--detector NAME] [--split NAME ...] [--light X ...] [--seed N ...]
                                                    [--shading-correction]
    python docs/benchmarks/accuracy/light.py --table

A split is a fold of protocol.py's, tile-disjoint, or `published`. All settings are the defaults, and the tiles are the groups
(`--group-key`), as a plant knows its pieces: a fifth of the good training images, of tiles that no other part of training sees,
calibrates, so that false calls are those at a promised 5 % of images of new tiles. A run that has its file in
docs/benchmarks/accuracy/light is not repeated. The table has a line an alteration, and for each way of training the image AUROC
and the false calls, in percent, of the splits and seeds that all ways have: means over splits of the means over their seeds. A
table before it has all runs of the model without either, if these are more. Below it, the paired difference of the unaltered
AUROC to that model, with the 95 % interval by bootstrap over tiles. Needs FLOWSCORE_ASSETS.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import protocol  # beside this file
import yaml

from jobs.command.aligned import aligned
from models.metrics.bootstrap import interval
from models.metrics.ranking import auroc

RUNS = Path(__file__).resolve().parent / "light"


class Way(NamedTuple):
    """Of training. light: the strength of --light. copies: its light_copies. shading: whether with --shading-correction."""

    light: float
    copies: int = 1
    shading: bool = False

    @classmethod
    def of(cls, report: dict[str, Any]) -> "Way":
        return cls(report["light"], report["copies"], report["shading"])

    @property
    def name(self) -> str:
        times = f" x {self.copies}" if self.copies > 1 else ""
        parts = [f"light {self.light:g}{times}"] if self.light or not self.shading else []
        return " + ".join(parts + ["shading"] * self.shading)

    @property
    def file_name(self) -> str:
        times = f"x{self.copies}" if self.copies > 1 else ""
        return f"light-{self.light:g}{times}" + ("-shading" if self.shading else "")


def run(source: Path, folder: Path, detector: str, split: str, way: Way, seed: int) -> None:
    """Train, calibrate, evaluate with --stress, and keep the figures."""
    name = f"{split}-{way.file_name}-seed-{seed}"
    target = RUNS / detector / f"{name}.json"
    if target.is_file():
        return
    tree, model = protocol.tree_of(source, split, folder), folder / "models" / f"{detector}-{name}"
    model.parent.mkdir(parents=True, exist_ok=True)
    settings, report = model.with_suffix(".yaml"), model.with_suffix(".json")
    settings.write_text(yaml.safe_dump({"light_copies": way.copies}), encoding="utf-8")
    good = ["--input", f"{by_tile(tree, folder / f'{split}-by-tile')}", "--key-pattern", "{tile}/{name}"]
    lights = ["--light", f"{way.light}", "--seed", f"{seed}", "--config", f"{settings}"]
    lights += ["--shading-correction"] if way.shading else []
    _command("train", "--detector", detector, *good, "--group-key", "tile", "--model-out", f"{model}", "--overwrite", *lights)
    _command("calibrate", "--model", f"{model}", *good)
    groups = ["--groups", f"{tree}/tiles.csv"]
    _command("evaluate", "--model", f"{model}", "--input", f"{tree}", *groups, "--stress", "--json", f"{report}")
    found = json.loads(report.read_text(encoding="utf-8"))
    found |= {"input": split, **way._asdict(), "seed": seed}
    found["scores"] = [[image["path"], image["score"], image["group"]] for image in found["scores"]]
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(found, separators=(",", ":"), allow_nan=False) + "\n", encoding="utf-8")
    shutil.rmtree(model)


def by_tile(tree: Path, goods: Path) -> Path:
    """The good training images of a tree, in a folder a tile."""
    for path, tile in protocol.tiles_of(tree).items():
        if path.startswith("train/good/"):
            (goods / tile).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(tree / path, goods / tile / Path(path).name)
    return goods


def _command(*arguments: str) -> None:
    environment = os.environ | {"PYTHONPATH": f"{protocol.ROOT}"}
    subprocess.run([sys.executable, "-m", "jobs.cli", *arguments], cwd=protocol.ROOT, env=environment, check=True)


def table(reports: Sequence[dict[str, Any]]) -> list[str]:
    """The lines of one detector's table, and below it a line for every way but the plain one."""
    ways = sorted({Way.of(report) for report in reports})
    of = {way: [report for report in reports if Way.of(report) == way] for way in ways}
    lines = [["altered", *(f"{way.name}: {figure}" for way in ways for figure in ("AUROC", "false calls"))]]
    for at, row in enumerate(reports[0]["stress"]["rows"]):
        cells = [f"{100 * _of_splits(of[way], at, figure):.1f}" for way in ways for figure in ("image_auroc", "false_calls")]
        lines.append([row["altered"], *cells])
    below = [f"runs: {', '.join(f'{way.name}: {len(of[way])}' for way in ways)}"]
    plain = {_drawn(report): report for report in of.get(Way(0), [])}
    for way in ways:
        pairs = [(plain[key], r) for r in of[way] if (key := _drawn(r)) in plain and way != Way(0)]
        if pairs:
            value, low, high = difference(pairs)
            below.append(f"{way.name}: unaltered AUROC {value:+.1f} ({low:+.1f} to {high:+.1f}) points against light 0, paired")
    return [*aligned(lines), "", *below]


def _of_splits(reports: Sequence[dict[str, Any]], at: int, figure: str) -> float:
    """The figure of a row of the stress table: the mean over splits, each the mean over its seeds, so that each split counts
    once, however many seeds it has."""
    of: dict[str, list[float]] = {}
    for report in reports:
        of.setdefault(report["input"], []).append(report["stress"]["rows"][at][figure]["value"])
    return float(np.mean([np.mean(values) for values in of.values()]))


def tables() -> str:
    """Those of every detector below its name: of the splits and seeds that all its ways have, and of all plain ones if more."""
    found = []
    for folder in sorted(path for path in RUNS.glob("*") if path.is_dir()):
        runs = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
        ways = {Way.of(report) for report in runs}
        common = set.intersection(*({_drawn(report) for report in runs if Way.of(report) == way} for way in ways))
        parts = [[report for report in runs if _drawn(report) in common]]
        plain = [report for report in runs if Way.of(report) == Way(0)]
        if len(plain) > len(common):
            parts.insert(0, plain)
        found.append(f"{folder.name}\n\n```\n" + "\n\n".join("\n".join(table(part)) for part in parts if part) + "\n```")
    return "\n\n".join(found) or "no runs yet"


def _drawn(report: dict[str, Any]) -> tuple[str, int]:
    """Its split and seed."""
    return report["input"], report["seed"]


def difference(pairs: Sequence[tuple[dict[str, Any], dict[str, Any]]]) -> tuple[float, float, float]:
    """Points of unaltered image AUROC of the second over the first of every pair, mean over pairs, and its 95 % interval."""
    images = [
        (number, path, score, other, group)
        for number, (first, second) in enumerate(pairs)
        for (path, score, group), (same, other, _) in zip(first["scores"], second["scores"], strict=True)
        if path == same
    ]
    number = np.array([image[0] for image in images])
    bad = np.array([not image[1].startswith("test/good") for image in images])
    both = np.array([image[2:4] for image in images])

    def mean(drawn: np.ndarray) -> np.ndarray:
        parts = [drawn[number[drawn] == pair] for pair in range(len(pairs))]
        return np.array([np.mean([auroc(both[part, 1], bad[part]) - auroc(both[part, 0], bad[part]) for part in parts])])

    found = interval(mean, [image[4] for image in images])
    return 100 * float(found.value[0]), 100 * float(found.low[0]), 100 * float(found.high[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--detector", default="csflow", choices=protocol.DETECTORS[:-1])
    parser.add_argument("--split", nargs="+", choices=protocol.SPLITS, default=["fold-0"])
    parser.add_argument("--light", nargs="+", type=float, default=[0.0, 0.4])
    parser.add_argument("--copies", type=int, default=1)
    parser.add_argument("--shading-correction", action="store_true")
    parser.add_argument("--seed", nargs="+", type=int, default=[0])
    parser.add_argument("--table", action="store_true", help="print the tables of the runs that are there, and train nothing")
    asked = parser.parse_args()
    if not asked.table:
        if asked.folder is None:
            parser.error("a folder for trees and models must be given")
        source = Path(os.environ["FLOWSCORE_ASSETS"]) / "assets" / "mtd"
        for seed in asked.seed:
            for split in asked.split:
                for light in asked.light:
                    way = Way(light, asked.copies if light else 1, asked.shading_correction)
                    run(source, asked.folder.resolve(), asked.detector, split, way, seed)
    print(tables())


if __name__ == "__main__":
    main()
