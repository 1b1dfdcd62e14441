"""The tile-disjoint figure on the magnetic tiles: no tile of a test image was seen in training.

    python docs/benchmarks/accuracy/tile_disjoint.py FOLDER [FOLD ...] [-- FLAGS OF flowscore train]

For each fold of tiles.csv it makes an MVTec tree in FOLDER/fold-K: train/good are the good images of the other folds,
test/good those of the fold, and the defects are those whose tile is not in train/good. Then it runs `flowscore train`
and `flowscore evaluate`. Without training anything, `summary FOLDER` prints the mean over the folds that are there.
Needs FLOWSCORE_ASSETS.
"""

import csv
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from models.bootstrap import interval
from models.metrics import auroc

ROOT = Path(__file__).resolve().parents[3]
FOLDS = range(5)


def make_tree(source: Path, fold: int, tree: Path) -> None:
    """The fold's images, masks and tiles.csv (path below the tree, tile)."""
    with open(source / "tiles.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    goods = [row for row in rows if row["fold"] != ""]
    trained = {row["tile"] for row in goods if int(row["fold"]) != fold}
    shutil.rmtree(tree, ignore_errors=True)
    listed = []
    for row in rows:
        path = Path(row["path"])
        if row in goods:
            side = "test" if int(row["fold"]) == fold else "train"
            target = Path(side, "good", f"{path.parts[0]}-{path.name}")
        elif row["tile"] in trained:
            continue
        else:
            target = path
            mask = Path("ground_truth", path.parts[1], f"{path.stem}.png")
            mask = mask if (source / mask).is_file() else mask.with_name(f"{path.stem}_mask.png")
            (tree / mask).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / mask, tree / mask)
        (tree / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / path, tree / target)
        listed.append((str(target), row["tile"]))
    with open(tree / "tiles.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path", "tile"), *listed])


def run_fold(source: Path, fold: int, folder: Path, flags: list[str]) -> None:
    tree = folder / f"fold-{fold}"
    make_tree(source, fold, tree)
    model = folder / f"model-{fold}"
    jobs = [sys.executable, "-m"]
    train = ["jobs.train", "--detector", "csflow", "--input", f"{tree}/train/good", "--model-out", f"{model}"]
    started = time.monotonic()
    subprocess.run([*jobs, *train, "--calibration-share", "0", *flags], cwd=ROOT, check=True)
    print(f"fold {fold}: trained in {time.monotonic() - started:.0f} s", flush=True)
    evaluate = ["jobs.evaluate", "--model", f"{model}", "--input", f"{tree}", "--groups", f"{tree}/tiles.csv"]
    subprocess.run([*jobs, *evaluate, "--json", f"{folder}/fold-{fold}.json"], cwd=ROOT, check=True)


def summary(folder: Path) -> None:
    """Mean over folds of each figure; for the image AUROC its interval by bootstrap over tiles within every fold."""
    reports = [json.loads(path.read_text()) for path in sorted(folder.glob("fold-?.json"))]
    for name in reports[0]["figures"]:
        found = [report["figures"][name] for report in reports if name in report["figures"]]
        text = []
        for key in found[0]:
            values = [figures[key]["value"] for figures in found if figures[key]["value"] is not None]
            text.append(f"{key} {100 * np.mean(values):.1f} [{', '.join(f'{100 * value:.1f}' for value in values)}]")
        print(f"{name}: " + "; ".join(text))
    images = [(fold, image) for fold, report in enumerate(reports) for image in report["scores"]]
    fold = np.array([entry[0] for entry in images])
    scores = np.array([entry[1]["score"] for entry in images])
    labels = np.array([entry[1]["defect_type"] != "good" for entry in images])

    def mean_auroc(drawn: np.ndarray) -> np.ndarray:
        parts = [drawn[fold[drawn] == k] for k in np.unique(fold)]
        return np.array([np.mean([auroc(scores[part], labels[part]) for part in parts])])

    found = interval(mean_auroc, [entry[1]["group"] for entry in images])
    print(f"image AUROC, mean over {len(reports)} folds: {100 * found.value[0]:.2f}", end=" ")
    print(f"(95 % by tile {100 * found.low[0]:.2f}-{100 * found.high[0]:.2f})")


def main() -> None:
    arguments = sys.argv[1:]
    if arguments and arguments[0] == "summary":
        summary(Path(arguments[1]))
        return
    flags = arguments[arguments.index("--") + 1 :] if "--" in arguments else []
    folder, *folds = arguments[: arguments.index("--")] if "--" in arguments else arguments
    source = Path(os.environ["FLOWSCORE_ASSETS"]) / "assets" / "mtd"
    for fold in [int(text) for text in folds] or FOLDS:
        run_fold(source, fold, Path(folder).resolve(), flags)
    summary(Path(folder))


if __name__ == "__main__":
    main()
