"""The whole accuracy protocol on the magnetic tiles: every detector, split and seed, then the tables of docs/accuracy.md.

    python docs/benchmarks/accuracy/protocol.py FOLDER [--detector NAME ...] [--split NAME ...] [--seed N ...] [--remember]
    python docs/benchmarks/accuracy/protocol.py FOLDER --table

Splits are `published` (train/good and test as they are) and `fold-0` to `fold-4` (tile-disjoint: train on the good images of
the other folds, test on the fold's good images and on the defects whose tile is not in train). Every model is trained with
its detector's default settings, which were chosen without test labels, and looked at once; flows without what they join
beside the flow (`AS_PUBLISHED`: auto.py measures their defaults), and all without a selection. A run that has its file in
docs/benchmarks/accuracy/runs is not repeated, so the command may be stopped and given again. Trees and models go to FOLDER.
`gaussian` is the baseline: CS-Flow's whitened features with a flow that is left as it starts, a permutation, so that the
score is a Mahalanobis distance; it has one seed. With --remember, DifferNet's runs share their backbone features
(`remembered.py`), which takes a third of the time; such a run has no training time. Needs FLOWSCORE_ASSETS.
"""

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from models.metrics.bootstrap import interval
from models.metrics.ranking import auroc
from pipeline.scoring.scorer import open_scorer

ROOT = Path(__file__).resolve().parents[3]
RUNS = Path(__file__).resolve().parent / "runs"
REMEMBERING = Path(__file__).resolve().parent / "remembered.py"
DETECTORS = ("csflow", "differnet", "fastflow", "cflow", "padim", "patchsvdd", "gaussian")
FOLDS = [f"fold-{fold}" for fold in range(5)]
SPLITS = ["published", *FOLDS]
SEEDS = [0, 1, 2]
UNTRAINED = {"epochs": 1, "learning_rate": 1e-30}  # a step that changes no weight
AS_PUBLISHED = {"map": "energy", "head": None}  # what a flow had before it joined a head; auto.py has its defaults
KINDS = ("blowhole", "break", "crack", "fray", "uneven")
TIMED_IMAGES = 64
REMEMBERED = ("differnet",)  # their backbone takes most of a run


def tree_of(source: Path, split: str, folder: Path) -> Path:
    """The split in the MVTec layout, with tiles.csv (path below the tree, tile)."""
    if split == "published":
        return source
    tree = folder / split
    fold = int(split.removeprefix("fold-"))
    with open(source / "tiles.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    # A defect whose tile also stands among the good images has the fold of its tile, and is a defect all the same.
    goods = [row for row in rows if Path(row["path"]).parts[1] == "good"]
    trained = {row["tile"] for row in goods if int(row["fold"]) != fold}
    copies: list[tuple[Path, Path]] = []  # from, to
    listed = [["path", "tile"]]
    for row in rows:
        path = target = Path(row["path"])
        if row in goods:
            side = "test" if int(row["fold"]) == fold else "train"
            target = Path(side, "good", f"{path.parts[0]}-{path.name}")
        elif row["tile"] in trained:
            continue
        else:
            mask = Path("ground_truth", path.parts[1], f"{path.stem}.png")
            mask = mask if (source / mask).is_file() else mask.with_name(f"{path.stem}_mask.png")
            copies.append((mask, mask))
        copies.append((path, target))
        listed.append([str(target), row["tile"]])
    if (tree / "tiles.csv").is_file():
        with open(tree / "tiles.csv", newline="", encoding="utf-8") as file:
            if list(csv.reader(file)) == listed:
                return tree
    shutil.rmtree(tree, ignore_errors=True)
    for path, target in copies:
        (tree / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / path, tree / target)
    with open(tree / "tiles.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(listed)
    return tree


def tiles_of(tree: Path) -> dict[str, str]:
    """The tile of every image, by its path below the tree."""
    with open(tree / "tiles.csv", newline="", encoding="utf-8") as file:
        return {row["path"]: row["tile"] for row in csv.DictReader(file)}


def run(source: Path, folder: Path, detector: str, split: str, seed: int, remember: bool = False) -> None:
    """Train, evaluate, time, and keep the figures."""
    target = RUNS / detector / f"{split}-seed-{seed}.json"
    if target.is_file():
        return
    features = folder / "features" if remember and detector in REMEMBERED else None
    tree, model = tree_of(source, split, folder), folder / "models" / f"{detector}-{split}-{seed}"
    # PaDiM's only chance is its draw of channels, which is a hyper-parameter; the Gaussian has none.
    special = {
        "csflow": {"hyperparameters": AS_PUBLISHED},
        "fastflow": {"hyperparameters": AS_PUBLISHED},
        "differnet": {"hyperparameters": {"head": None}},
        "gaussian": {"training": UNTRAINED, "hyperparameters": AS_PUBLISHED},
        "padim": {"hyperparameters": {"channel_seed": 1024 + seed}},
    }
    settings = {"selection_share": 0, **special.get(detector, {})}
    keep(target, measured(tree, tree / "train" / "good", model, detector, split, seed, settings, features))


def keep(target: Path, found: dict[str, Any]) -> None:
    """Write the figures of a run."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(found, separators=(",", ":"), allow_nan=False) + "\n", encoding="utf-8")


def measured(
    tree: Path,
    goods: Path,
    model: Path,
    detector: str,
    split: str,
    seed: int,
    own: dict[str, Any],
    features: Path | None = None,
) -> dict[str, Any]:
    """The figures of a model that is trained on the good images, and deleted afterwards. own: other settings of training than
    the defaults; no image is kept to calibrate."""
    model.parent.mkdir(parents=True, exist_ok=True)
    # Files of this run's own: several runs may share the folder.
    settings, report = model.with_suffix(".yaml"), model.with_suffix(".json")
    settings.write_text(yaml.safe_dump({"calibration_share": 0, **own}), encoding="utf-8")
    train = [
        "train",
        "--detector",
        "csflow" if detector == "gaussian" else detector,
        "--input",
        f"{goods}",
        "--model-out",
        f"{model}",
        "--overwrite",  # what a run that was stopped has left
    ]
    started = time.monotonic()
    _command(*train, "--seed", f"{seed}", "--config", f"{settings}", features=features)
    trained_s = None if features else round(time.monotonic() - started, 1)
    evaluate = ["evaluate", "--model", f"{model}", "--input", f"{tree}"]
    _command(*evaluate, "--groups", f"{tree}/tiles.csv", "--json", f"{report}", features=features)
    found = json.loads(report.read_text(encoding="utf-8"))
    found |= {"input": split, "trained_s": trained_s, "images_per_s": round(_speed(model), 2)}
    found["threads"] = torch.get_num_threads()
    found["scores"] = [[image["path"], image["score"], image["group"]] for image in found["scores"]]
    shutil.rmtree(model)
    return found


def _command(*arguments: str, features: Path | None) -> None:
    command = ["-m", "jobs.cli"] if features is None else [f"{REMEMBERING}", f"{features}"]
    environment = os.environ | {"PYTHONPATH": f"{ROOT}"}
    subprocess.run([sys.executable, *command, *arguments], cwd=ROOT, env=environment, check=True)


def _speed(model: Path) -> float:
    """Images a second of the model alone, from pixels in memory; the better of two."""
    scorer = open_scorer(model, "auto")
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))["input"]
    pixels = np.random.default_rng(0).integers(0, 255, (TIMED_IMAGES, config["height"], config["width"], 3), np.uint8)
    scorer(pixels[: scorer.batch_size])
    seconds = []
    for _ in range(2):
        started = time.monotonic()
        scorer(pixels)
        seconds.append(time.monotonic() - started)
    return TIMED_IMAGES / min(seconds)


def table() -> str:
    """Markdown: a row a detector, in percent; mean over seeds and, after it, the lowest and highest seed."""
    header = [
        "detector | published: image AUROC | pixel AUROC | AUPRO | tile-disjoint: image AUROC | pixel AUROC | AUPRO "
        "| training, min | images/s",
        "|".join(["---"] * 9),
    ]
    rows = []
    for detector in DETECTORS:
        reports = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted((RUNS / detector).glob("*.json"))}
        published = {key: report for key, report in reports.items() if key.startswith("published")}
        folds = {key: report for key, report in reports.items() if key.startswith("fold")}
        if not reports:
            continue
        cells = [detector]
        for chosen in (published, folds):
            cells += [_image_cell(chosen), _cell(chosen, "pixel_auroc"), _cell(chosen, "aupro")]
        minutes = [report["trained_s"] / 60 for report in reports.values() if report["trained_s"] is not None]
        cells += [
            f"{np.median(minutes):.1f}" if minutes else "-",
            f"{np.median([report['images_per_s'] for report in reports.values()]):.0f}",
        ]
        rows.append(" | ".join(cells))
    return "\n".join(f"| {line} |" for line in [*header, *rows])


def kinds() -> str:
    """Markdown: a row a detector and split, image AUROC by kind of defect in percent, means over seeds and folds; last, that of
    the published split without the defects whose tile stands in train/good too."""
    tiles = tiles_of(Path(os.environ["FLOWSCORE_ASSETS"]) / "assets" / "mtd")
    known = {tile for path, tile in tiles.items() if path.startswith("train/")}
    rows = []
    for split in ("published", "fold"):
        for detector in DETECTORS:
            reports = [json.loads(path.read_text(encoding="utf-8")) for path in (RUNS / detector).glob(f"{split}*.json")]
            if not reports:
                continue
            found = [report["figures"] for report in reports]
            told = [[figures[kind]["image_auroc"]["value"] for figures in found] for kind in KINDS]
            known_of = [[value for value in values if value is not None] for values in told]  # too few images rank nothing
            means = [f"{100 * np.mean(values):.1f}" if values else "-" for values in known_of]
            rest = f"{100 * np.mean([_without(known, report) for report in reports]):.1f}" if split == "published" else "-"
            named = "published" if split == "published" else "tile-disjoint"
            rows.append(" | ".join([detector, named, f"{len(reports)}", *means, rest]))
    header = [f"detector | split | runs | {' | '.join(KINDS)} | without known tiles", "|".join(["---"] * (len(KINDS) + 4))]
    return "\n".join(f"| {line} |" for line in [*header, *rows])


def _without(tiles: set[str], report: dict[str, Any]) -> float:
    """Image AUROC without the defects of these tiles."""
    images = [image for image in report["scores"] if image[0].startswith("test/good") or image[2] not in tiles]
    return auroc(np.array([image[1] for image in images]), np.array([not image[0].startswith("test/good") for image in images]))


def _seeds(reports: dict[str, Any]) -> dict[str, list[Any]]:
    by_seed: dict[str, list[Any]] = {}
    for key, report in reports.items():
        by_seed.setdefault(key.rpartition("-")[2], []).append(report)
    return by_seed


def _cell(reports: dict[str, Any], figure: str) -> str:
    """Mean over seeds of the mean over splits, with the range over seeds."""
    means = [
        100 * np.mean([report["figures"]["all"][figure]["value"] for report in found]) for found in _seeds(reports).values()
    ]
    if not means:
        return "-"
    spread = f" [{min(means):.1f}, {max(means):.1f}]" if len(means) > 1 else ""
    wanted = len(FOLDS) * len(means)
    partial = f", {len(reports)} of {wanted} runs" if any("fold" in key for key in reports) and len(reports) < wanted else ""
    return f"{np.mean(means):.1f}{spread}{partial}"


def _image_cell(reports: dict[str, Any]) -> str:
    """The same with the 95 % interval of the mean over seeds and splits, by bootstrap over tiles."""
    if not reports:
        return "-"
    images = [(number, *image) for number, report in enumerate(reports.values()) for image in report["scores"]]
    run = np.array([image[0] for image in images])
    scores = np.array([image[2] for image in images])
    labels = np.array([not image[1].startswith("test/good") for image in images])

    def mean_auroc(drawn: np.ndarray) -> np.ndarray:
        order = drawn[np.argsort(run[drawn], kind="stable")]
        parts = np.split(order, np.cumsum(np.bincount(run[order], minlength=len(reports)))[:-1])
        return np.array([np.mean([auroc(scores[part], labels[part]) for part in parts])])

    found = interval(mean_auroc, [image[3] for image in images], draws=300)
    return f"{_cell(reports, 'image_auroc')} ({100 * found.low[0]:.1f}-{100 * found.high[0]:.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--detector", nargs="+", choices=DETECTORS, default=DETECTORS)
    parser.add_argument("--split", nargs="+", choices=SPLITS, default=SPLITS)
    parser.add_argument("--seed", nargs="+", type=int, default=SEEDS)
    parser.add_argument("--remember", action="store_true", help=f"share features between runs of {', '.join(REMEMBERED)}")
    parser.add_argument("--table", action="store_true", help="print the tables of the runs that are there, and train nothing")
    asked = parser.parse_args()
    if not asked.table:
        source = Path(os.environ["FLOWSCORE_ASSETS"]) / "assets" / "mtd"
        for seed in asked.seed:
            for split in asked.split:
                for detector in asked.detector:
                    if detector == "gaussian" and seed:
                        continue
                    run(source, asked.folder.resolve(), detector, split, seed, asked.remember)
    print(f"{table()}\n\n{kinds()}")


if __name__ == "__main__":
    main()
