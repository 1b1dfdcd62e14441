"""Whether a promised rate holds for tiles that no part of training or calibration has seen: six detectors, five folds.

    PYTHONPATH=. python docs/benchmarks/verdicts/tiles.py FOLDER            # trains what tiles.csv lacks; trees go to FOLDER
    PYTHONPATH=. python docs/benchmarks/verdicts/tiles.py --table           # the tables of tiles.csv alone

A piece is a tile, and an image is one of its exposures. For each fold the commands' own functions train and calibrate on the
good tiles of the other folds, as a user would with `--group-key tile --piece-key tile`: `train` keeps 40 % for calibration.
Then the fold's good tiles and all defective ones are scored. Their verdicts, at 5, 10 and 20 %, are those of
models/calibration, once with the calibration that was kept and once, as a warning, with one made of the fitted tiles. Good
images of the four tiles that show a defect elsewhere are left out everywhere; their defects count.

The number of false calls is BetaBinomial(m, j, n + 1 - j) distributed, for m new and n calibration tiles of the same image
count and j = floor(rate (n + 1)); over the image counts that are judged it is the sum of such. The tables give the two-sided
99 % interval of that sum. Every score is in tiles.csv, and a fold and detector that is there is not repeated. Tables go to
tiles.md. Training needs FLOWSCORE_ASSETS.
"""

import argparse
import csv
import os
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import betabinom

from jobs.calibrate import calibrated
from jobs.images.good import Exclusions
from jobs.images.kept import seen_by
from jobs.images.scored import KeyReader, score_images
from jobs.settings.calibration import CalibrateSettings
from jobs.settings.training import TrainSettings
from jobs.train import train
from models.calibration import files
from models.calibration.at_rates import at_rates
from models.calibration.build import Belongs, Scored, calibrate
from models.calibration.calibration import Calibration, Grid, Keys, Mode, Selection
from models.verdicts.pieces import Images, piece_scores
from models.verdicts.rates import allowed_rank
from models.verdicts.view_scales import ViewScales
from pipeline.decode.config import DecodeConfig
from pipeline.input.config import SourceConfig
from pipeline.scoring.scorer import open_scorer

HERE = Path(__file__).resolve().parent
FOLDS = range(5)
SIZE_PX = 96
SHARE = 0.4  # of the good images of four folds, for calibration
DETECTORS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {  # training, hyperparameters: small, so that all take an hour
    "csflow": ({"epochs": 2}, {"hidden": 32, "kernels": (3, 3), "whiten_dims": 64}),
    "differnet": ({"epochs": 12}, {"transforms": 2, "mirrored": False, "scales": 2, "hidden": 64}),
    "cflow": ({"epochs": 2}, {}),
    "fastflow": ({"epochs": 14}, {"steps": 4, "whiten_dims": 64}),
    "padim": ({}, {"dims": 100}),
    "patchsvdd": ({"epochs": 1, "epoch_steps": 30, "pairs_per_image": 1}, {"bank_size": 5000}),
}
RATES = tuple(Fraction(text) for text in ("0.05", "0.1", "0.2"))
LEVEL = 0.99
PATTERN = "{tile}/{name}.jpg"
CALIBRATION, SEEN, SELECTION, GOOD, BAD = SETS = ("calibration", "seen", "selection", "new good", "new bad")

HEADER = """# Promised rates on new magnetic tiles

`tiles.py` makes this page of `tiles.csv`; [README.md](README.md) says how the scores came about. A cell holds the false
calls among the fold's good tiles and, in parentheses, their two-sided 99 % interval; it is bold outside. `together` adds the
folds, beside the number that is expected. Escapes are the share of judged defective tiles that are not flagged."""


class Row(NamedTuple):
    """One image. set: one of SETS; seen is what the model was fitted on."""

    fold: int
    detector: str
    set: str
    tile: str
    score: np.float32


class Cell(NamedTuple):
    """One model at one rate. judged: good pieces.  low, high: the interval of false_calls.  not_judged: good and bad."""

    calibration: tuple[int, ...]
    judged: int
    false_calls: int
    low: int
    high: int
    expected: float
    bad: int
    escapes: int
    not_judged: tuple[int, int]

    def inside(self) -> bool:
        return self.low <= self.false_calls <= self.high


# Training and scoring


def trees(source: Path, fold: int, folder: Path) -> tuple[Path, Path, Path]:
    """Folders with a subfolder for each tile: good ones of the other folds, good ones of this fold, and defects."""
    with open(source / "tiles.csv", newline="", encoding="utf-8") as file:
        rows = [(Path(row["path"]), row["tile"], row["fold"]) for row in csv.DictReader(file)]
    defective = {tile for path, tile, _ in rows if path.parts[1] != "good"}
    parts = folder / f"{fold}" / "known", folder / f"{fold}" / "new", folder / "bad"
    for path, tile, of in rows:
        bad = path.parts[1] != "good"
        if bad or tile not in defective:
            target = parts[2 if bad else int(of) == fold] / tile / f"{'-'.join(path.parts[:-1])}-{path.name}"
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.is_file():
                shutil.copyfile(source / path, target)
    return parts


def made(known: Path, new: Path, bad: Path, fold: int, detector: str, model: Path) -> Iterator[Row]:
    """Train and calibrate as the commands do, and score every image."""
    train(
        TrainSettings(
            input=str(known),
            model_out=str(model),
            detector=detector,
            image_size=(SIZE_PX, SIZE_PX),
            training=DETECTORS[detector][0],
            hyperparameters=DETECTORS[detector][1],
            key_pattern=PATTERN,
            group_key="tile",
            calibration_share=SHARE,
            seed=fold,
            device="cpu",
        )
    )
    opened = calibrated(
        CalibrateSettings(
            model=str(model),
            input=str(known),
            key_pattern=PATTERN,
            piece_key="tile",
            rates=",".join(map(str, map(float, RATES))),
            device="cpu",
        )
    )
    scorer, decode, seen = open_scorer(model, "cpu"), DecodeConfig.of(opened.config.input), seen_by(opened.config.trained)
    rows = []
    for tree, named in ((known, CALIBRATION), (new, GOOD), (bad, BAD)):
        source = SourceConfig(input_uri=str(tree), key_pattern=PATTERN)
        found = score_images(named, source, scorer, decode, KeyReader(source, Keys(PATTERN, ("tile",))), Exclusions(None))
        for image in found.images:
            if not image.readable:
                raise ValueError(f"every image must be readable; got {image.key}. Look at the files of FLOWSCORE_ASSETS.")
            which = SEEN if image.content_hash in seen.fit else SELECTION if image.content_hash in seen.selection else named
            if which != named and named != CALIBRATION:
                raise ValueError(f"new tiles must be unknown to the model; got {image.key}. The trees are mixed up.")
            rows.append(Row(fold, detector, which, image.named.piece, np.float32(image.score)))
    kept = files.read(opened)
    assert kept is not None
    check_same(kept, [row for row in rows if row.set == CALIBRATION])
    yield from rows


def check_same(kept: Calibration, rows: Sequence[Row]) -> None:
    """The model's own calibration is the one that the tables make of these rows. Raises ValueError."""
    own, again = (np.sort(one.images.score) for one in (kept, calibration_of(rows)))
    if not np.array_equal(own, again):
        raise ValueError(f"tiles.csv must have the calibration's scores; {len(own)} and {len(again)} of them differ.")


def read(path: Path) -> list[Row]:
    if not path.is_file():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return [Row(int(r["fold"]), r["detector"], r["set"], r["tile"], np.float32(r["score"])) for r in csv.DictReader(file)]


def write(path: Path, rows: Sequence[Row]) -> None:
    """In one order, whatever the order of the runs; a run that is stopped leaves the file as it was."""
    ordered = sorted(rows, key=lambda row: (list(DETECTORS).index(row.detector), row.fold, SETS.index(row.set)))
    with tempfile.NamedTemporaryFile("w", newline="", encoding="utf-8", dir=path.parent, delete=False) as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(Row._fields)
        table.writerows((*row[:4], str(row.score)) for row in ordered)
    Path(file.name).chmod(0o644)
    Path(file.name).replace(path)


# Verdicts, from scores alone


def images_of(rows: Sequence[Row], sets: Sequence[str]) -> tuple[Images, NDArray[np.bool_]]:
    """Images of these sets, and whether each is bad. The good and the bad tiles have no number in common."""
    mine = [row for row in rows if row.set in sets]
    scores = np.array([row.score for row in mine], np.float32)
    images = Images(np.array([row.tile for row in mine]), np.full(len(mine), ""), scores, np.ones(len(mine), np.bool_))
    return images, np.array([row.set == BAD for row in mine])


def calibration_of(rows: Sequence[Row]) -> Calibration:
    """The calibration of these images' tiles. One view: every scale gives the same ranks, so raw scores do."""
    images, _ = images_of(rows, [row.set for row in rows])
    n = len(rows)
    good = Scored(images, np.full(n, ""), [()] * n, [f"{at}" for at in range(n)], [None] * n, [f"{at:032x}" for at in range(n)])
    raw = ViewScales(np.array([""]), np.zeros(1), np.ones(1))
    selection = Selection(raw, "raw scores", np.zeros(0, np.float32), np.zeros(0, np.int64))
    belongs = Belongs("", Mode("cpu", 1, 0), Grid(SIZE_PX, SIZE_PX, "squash", ()), Keys(PATTERN, ("tile",)))
    return calibrate(good, selection, belongs, RATES)


def interval(judged: Sequence[int], known: Sequence[int], rate: Fraction) -> tuple[int, int, float]:
    """Ends of the two-sided interval of the false calls, and their mean, if judged[k] new good pieces are compared with
    known[k] calibration pieces. Each end is missed with at most (1 - LEVEL) / 2."""
    chances = np.ones(1)
    for m, n in zip(judged, known, strict=True):
        j = allowed_rank(rate, n)
        chances = np.convolve(chances, betabinom.pmf(np.arange(m + 1), m, j, n + 1 - j)) if j and m else chances
    below = np.cumsum(chances)
    low, high = (int(np.searchsorted(below, end)) for end in ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return low, high, float(chances @ np.arange(len(chances)))


def cells(rows: Sequence[Row], calibrated_on: str) -> list[Cell]:
    """One a rate, of one fold and detector."""
    made_of = calibration_of([row for row in rows if row.set == calibrated_on])
    images, bad = images_of(rows, (GOOD, BAD))
    group = made_of.groups[0]
    scored = piece_scores(images, made_of.selection.scales, group.sets)
    good_piece = scored.complete() & (scored.surplus == 0) & ~np.isin(scored.piece, images.piece[bad])
    known = [len(scores) for scores in group.calibrations()]
    new = [int((good_piece & (scored.number == row)).sum()) for row in range(len(known))]
    found = []
    for one in at_rates(made_of, images, bad, images.piece.tolist(), RATES):
        if one.pieces is None:
            raise ValueError(f"a calibration must have {one.needs} pieces for this rate; got {max(known)}. Change SHARE.")
        calls, escapes = one.pieces
        used = [row for row, n in enumerate(known) if allowed_rank(one.rate, n)]
        if sum(new[row] for row in used) != calls.total:
            raise ValueError(f"judged pieces must be the complete ones, {new}; got {calls.total}.")
        low, high, mean = interval([new[row] for row in used], [known[row] for row in used], one.rate)
        counts = (calls.total, calls.counted, low, high, mean, escapes.total, escapes.counted)
        found.append(Cell(tuple(known[row] for row in used), *counts, one.not_judged))
    return found


def tables(rows: Sequence[Row]) -> str:
    """What tiles.md holds below its title: for both calibrations the cells, a closing line, and how many pieces they had."""
    of_model: dict[tuple[str, int], list[Row]] = defaultdict(list)
    for row in rows:
        of_model[row.detector, row.fold].append(row)
    parts = []
    for calibrated_on, title in ((CALIBRATION, "Calibrated on tiles of their own"), (SEEN, "Calibrated on the fitted tiles")):
        found = {key: cells(own, calibrated_on) for key, own in of_model.items()}
        heads = ["promised", "detector", *(f"fold {fold}" for fold in FOLDS), "together", "expected", "escapes"]
        lines = [f"## {title}", "", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
        for at, rate in enumerate(RATES):
            for detector in DETECTORS:
                own = {fold: found[detector, fold][at] for fold in FOLDS if (detector, fold) in found}
                lines += [_line(float(rate), detector, own)] if own else []
        every = [cell for of in found.values() for cell in of]
        inside, above = sum(map(Cell.inside, every)), sum(cell.false_calls > cell.high for cell in every)
        outside = f"{above} above, {len(every) - inside - above} below"
        lines += ["", f"{len(every)} cells: {inside} inside their interval, {outside}.", "", *_counts(found)]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _line(rate: float, detector: str, own: dict[int, Cell]) -> str:
    shown = []
    for fold in FOLDS:
        cell = own.get(fold)
        text = "-" if cell is None else f"{cell.false_calls} ({cell.low}-{cell.high})"
        shown.append(text if cell is None or cell.inside() else f"**{text}**")
    calls, judged, expected, escapes, bad = (
        sum(getattr(cell, name) for cell in own.values()) for name in ("false_calls", "judged", "expected", "escapes", "bad")
    )
    together = f"{calls} of {judged}, {100 * calls / judged:.1f} %"
    return f"| {rate:.0%} | {detector} | {' | '.join(shown)} | {together} | {expected:.1f} | {100 * escapes / bad:.0f} % |"


def _counts(found: dict[tuple[str, int], list[Cell]]) -> list[str]:
    """Pieces of each fold and rate; all detectors have the same."""
    heads = ["promised", "fold", "calibration tiles, by image count", "good judged", "not", "defective judged", "not"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for at, rate in enumerate(RATES):
        for fold in FOLDS:
            own = [of[at] for (_, number), of in found.items() if number == fold]
            for known, judged, bad, left in sorted({(c.calibration, c.judged, c.bad, c.not_judged) for c in own}):
                counts = (judged, left[0], bad, left[1])
                lines.append(f"| {float(rate):.0%} | {fold} | {' + '.join(map(str, known))} | {' | '.join(map(str, counts))} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="for trees of images and models")
    parser.add_argument("--detector", nargs="+", choices=DETECTORS, default=list(DETECTORS))
    parser.add_argument("--fold", nargs="+", type=int, choices=FOLDS, default=list(FOLDS))
    parser.add_argument("--table", action="store_true", help="train nothing")
    given = parser.parse_args()
    if not given.table and given.folder is None:
        parser.error("give a folder, or --table")
    path = HERE / "tiles.csv"
    rows = read(path)
    for fold in given.fold if not given.table else ():
        parts = trees(Path(os.environ["FLOWSCORE_ASSETS"]) / "assets" / "mtd", fold, given.folder.resolve())
        for detector in given.detector:
            if not any((row.fold, row.detector) == (fold, detector) for row in rows):
                with tempfile.TemporaryDirectory(dir=given.folder) as scratch:
                    rows += made(*parts, fold, detector, Path(scratch) / "model")
                write(path, rows)
    text = tables(rows)
    (HERE / "tiles.md").write_text(f"{HEADER}\n\n{text}\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
