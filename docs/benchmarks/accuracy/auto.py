"""Does `train --detector auto` choose well? Its criterion beside the figures of defects that it has not drawn.

    python docs/benchmarks/accuracy/auto.py FOLDER [--split NAME ...] [--seed N ...]
    python docs/benchmarks/accuracy/auto.py FOLDER --table

On the published split and every tile-disjoint fold of protocol.py and every surface of surfaces.py, all candidates are fitted
to nine tenths of the good training images, as auto fits them before it chooses, and examined by synthetic defects on the
tenth. The same fits then score the test images. A run keeps the scores of every member in docs/benchmarks/accuracy/auto, and is
not repeated when its file is there; runs of one split share the features of its images.

Each kind of split has a table with a line for each detector and combination: the criterion, image AUROC in percent with its
95 % interval by bootstrap over tiles, AUPRO to a false positive rate of 0.3 and of 0.05, how often auto takes it, and how many
points of image AUROC and AUPRO it is then behind the best in hindsight. No model is chosen or kept by these figures. Needs
FLOWSCORE_ASSETS.
"""

import argparse
import csv
import json
import os
import tempfile
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import light  # beside this file
import numpy as np
import protocol  # beside this file
import surfaces  # beside this file
import torch
from PIL import Image
from torch import Tensor

from jobs.training.auto import CANDIDATES, Examined
from models import registry
from models.choosing import costs
from models.config import ArtifactConfig
from models.detector import FitRun
from models.detectors.ensemble import Ensemble
from models.features.store import ImageFeatures
from models.fitting.choice import choose, together
from models.fitting.groups import split
from models.fitting.selection import ExamScores
from models.fitting.synthetic import FAMILIES
from models.maps.grids import resized
from models.metrics.aupro import AuproCurve, binary_mask
from models.metrics.bootstrap import interval
from models.metrics.ranking import auroc
from pipeline.decode.config import DecodeConfig
from pipeline.decode.image import decode_image

SURFACE = "surface-"
SPLITS = [*protocol.SPLITS, *(f"{SURFACE}{name}" for name in surfaces.SURFACES)]
RUNS = Path(__file__).resolve().parent / "auto"
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
    with open(tree / "tiles.csv", newline="", encoding="utf-8") as file:
        tile = {row["path"]: row["tile"] for row in csv.DictReader(file)}
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


def names(members: list[str]) -> list[str]:
    """Every candidate's, as `choose` names them."""
    return [" + ".join(subset) for count in range(1, len(members) + 1) for subset in combinations(members, count)]


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


def exams_of(found: dict[str, Any], families: Sequence[str] = tuple(FAMILIES)) -> dict[str, ExamScores]:
    """Of every member, by these families alone."""
    return {
        member: ExamScores(np.array(one["good"]), {family: np.array(one["defects"][family]) for family in families})
        for member, one in found["exam"].items()
    }


def judged(found: dict[str, Any]) -> tuple[Any, dict[str, np.ndarray], np.ndarray, list[str]]:
    """The choice, the scores of the test images by every candidate's name, which of them are defects, and their tiles."""
    exams = exams_of(found)
    choice = choose(exams, costs(list(exams)), found["groups"])
    return choice, *tested(found), [row[1] for row in found["test"]]


def tested(found: dict[str, Any]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The scores of the test images by every candidate's name, and which of them are defects."""
    exams = exams_of(found)
    columns = {member: np.array([row[2 + i] for row in found["test"]]) for i, member in enumerate(exams)}
    scores = {}
    for name in names(list(exams)):
        parts = [ExamScores(exams[member].good, {"test": columns[member]}) for member in name.split(" + ")]
        scores[name] = together(parts).defects["test"]
    labels = np.array([not row[0].startswith("test/good") for row in found["test"]])
    return scores, labels


def kept_runs(of: str) -> list[dict[str, Any]]:
    """Those whose file's name begins so. A surface's cracks are left out: the criterion draws such defects too."""
    kept = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(RUNS.glob(f"{of}*.json"))]
    for found in kept if of == SURFACE else []:
        found["test"] = [row for row in found["test"] if Path(row[0]).parts[1] not in FAMILIES]
    return kept


def table(of: str) -> str:
    """A line for each candidate, means over the runs whose file's name begins so."""
    kept = kept_runs(of)
    runs = [judged(found) for found in kept]
    if not runs:
        return f"{of}: no runs yet"
    header = "candidate | criterion | image AUROC | AUPRO | AUPRO 0.05 | taken | then behind the best: AUROC | AUPRO"
    lines = [header, "|".join(["---"] * 8)]
    real = [{name: auroc(values, labels) for name, values in scores.items()} for _, scores, labels, _ in runs]
    images = [(number, i) for number, (_, _, labels, _) in enumerate(runs) for i in range(len(labels))]
    tiles = [tile for _, _, _, of_run in runs for tile in of_run]
    owner = np.array([number for number, _ in images])

    def cell(of_run: list[np.ndarray]) -> str:
        values = np.concatenate(of_run)
        labels = np.concatenate([each[2] for each in runs])

        def mean(drawn: np.ndarray) -> np.ndarray:
            parts = [drawn[owner[drawn] == number] for number in range(len(runs))]
            return np.array([np.mean([auroc(values[part], labels[part]) for part in parts])])

        ends = interval(mean, tiles, draws=200)
        mean_value = float(np.mean([auroc(v, each[2]) for v, each in zip(of_run, runs, strict=True)]))
        return f"{100 * mean_value:.1f} ({100 * ends.low[0]:.1f}-{100 * ends.high[0]:.1f})"

    taken = [choice.chosen.name for choice, *_ in runs]
    lost = [100 * (max(each.values()) - each[name]) for each, name in zip(real, taken, strict=True)]
    aupros = [{name: area["0.3"] for name, area in found["aupro"].items()} for found in kept]
    low = [{name: area["0.05"] for name, area in found["aupro"].items()} for found in kept]
    lost_maps = [100 * (max(each.values()) - each[name]) for each, name in zip(aupros, taken, strict=True)]
    for name in real[0]:
        criteria = [next(c.criterion.value for c in choice.candidates if c.name == name) for choice, *_ in runs]
        behind = [
            ", ".join(f"{points:.1f}" for points, each in zip(of_all, taken, strict=True) if each == name) or "-"
            for of_all in (lost, lost_maps)
        ]
        figures = [f"{np.mean(criteria):.2f}", cell([each[1][name] for each in runs])]
        figures += [f"{100 * np.mean([each[name] for each in areas]):.1f}" for areas in (aupros, low)]
        figures += [f"{taken.count(name)}"]
        lines.append(" | ".join([name, *figures, *behind]))
    chosen = [each[1][name] for each, name in zip(runs, taken, strict=True)]
    maps = [f"{100 * np.mean([each[name] for each, name in zip(areas, taken, strict=True)]):.1f}" for areas in (aupros, low)]
    at_most = f"{max(lost):.1f} at most | {max(lost_maps):.1f} at most"
    lines.append(f"what auto takes | - | {cell(chosen)} | {' | '.join(maps)} | {len(runs)} | {at_most}")
    return "\n".join(f"| {line} |" for line in lines)


def kinds() -> str:
    """Image AUROC by kind of defect in percent, means over the runs of the folds; a line for each detector alone and for what
    auto takes."""
    kept = kept_runs("fold")
    if not kept:
        return "kinds: no runs yet"
    aurocs: dict[str, dict[str, list[float]]] = {}
    for found in kept:
        choice, scores, labels, _ = judged(found)
        shown = {name: scores[name] for name in found["exam"]} | {"what auto takes": scores[choice.chosen.name]}
        of = np.array([Path(row[0]).parts[1] for row in found["test"]])
        for kind in set(protocol.KINDS) & set(of):
            some = np.isin(of, ["good", kind])
            for name, values in shown.items():
                aurocs.setdefault(name, {}).setdefault(kind, []).append(auroc(values[some], labels[some]))
    lines = [f"candidate | {' | '.join(protocol.KINDS)}", "|".join(["---"] * (1 + len(protocol.KINDS)))]
    for name, own in aurocs.items():
        lines.append(" | ".join([name, *(f"{100 * np.mean(own[kind]):.1f}" for kind in protocol.KINDS)]))
    return "\n".join(f"| {line} |" for line in lines)


def against_flows_alone() -> str:
    """Points of image AUROC that a flow gains by its head, fitted to nine tenths, over the flow alone, fitted to all (the
    protocol's run of the same split and seed), paired, with the 95 % interval by bootstrap over tiles."""
    lines = ["flow | published | tile-disjoint", "|".join(["---"] * 3)]
    for flow in ("csflow", "fastflow"):
        cells = []
        for of in ("published", "fold"):
            pairs = []
            for path in sorted(RUNS.glob(f"{of}*.json")):
                found = json.loads(path.read_text(encoding="utf-8"))
                column = 2 + list(found["exam"]).index(flow)
                joined = sorted([row[0], row[column], row[1]] for row in found["test"])
                alone = json.loads((protocol.RUNS / flow / path.name).read_text(encoding="utf-8"))
                pairs.append(({"scores": sorted(alone["scores"])}, {"scores": joined}))
            cells.append("{:+.1f} ({:+.1f} to {:+.1f})".format(*light.difference(pairs)) if pairs else "-")
        lines.append(" | ".join([flow, *cells]))
    return "\n".join(f"| {line} |" for line in lines)


def agreement() -> str:
    """How often the criterion orders two candidates of one run as their image AUROC does, where that differs by a point or
    more: with all families of synthetic defects, and with the first six alone."""
    lines = ["splits | pairs | ordered alike | with six families", "|".join(["---"] * 4)]
    for of in ("published", "fold", SURFACE):
        pairs, alike, alike_with_six = 0, 0, 0
        for found in kept_runs(of):
            scores, labels = tested(found)
            real = {name: 100 * auroc(values, labels) for name, values in scores.items()}
            full, six = (criteria(found, some) for some in (list(FAMILIES), list(FAMILIES)[:6]))
            for first, second in combinations(real, 2):
                better = real[first] - real[second]
                if abs(better) >= 1:
                    pairs += 1
                    alike += better * (full[first] - full[second]) > 0
                    alike_with_six += better * (six[first] - six[second]) > 0
        shares = [f"{100 * count / pairs:.0f} %" if pairs else "-" for count in (alike, alike_with_six)]
        lines.append(" | ".join([of.rstrip("-"), f"{pairs}", *shares]))
    return "\n".join(f"| {line} |" for line in lines)


def criteria(found: dict[str, Any], families: Sequence[str]) -> dict[str, float]:
    """Of every candidate, by these families alone."""
    exams = exams_of(found, families)
    parts = {name: [exams[member] for member in name.split(" + ")] for name in names(list(exams))}
    return {name: together(own).criterion().value for name, own in parts.items()}


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
