"""The tables of auto.py, from the runs that are kept in docs/benchmarks/accuracy/auto.

Each kind of split has a table with a line for each detector and combination: the criterion, image AUROC in percent with the
lowest and the highest seed in brackets and its 95 % interval by bootstrap over tiles, AUPRO to a false positive rate of 0.3 and
of 0.05, how often auto takes it, and how many points of image AUROC and AUPRO it is then behind the best in hindsight.
"""

import json
from collections.abc import Sequence
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import light  # beside this file, as the others
import numpy as np
import protocol

from models.choosing import costs
from models.fitting.choice import Choice, choose, together
from models.fitting.selection import ExamScores
from models.fitting.synthetic import FAMILIES
from models.metrics.bootstrap import interval
from models.metrics.ranking import auroc

SURFACE = "surface-"
RUNS = Path(__file__).resolve().parent / "auto"
NEAR, NEAR_MAPS = 2, 3  # points of image AUROC and of AUPRO behind the best that still count as near it


def names(members: list[str]) -> list[str]:
    """Every candidate's, as `choose` names them."""
    return [" + ".join(subset) for count in range(1, len(members) + 1) for subset in combinations(members, count)]


def exams_of(found: dict[str, Any], families: Sequence[str] = tuple(FAMILIES)) -> dict[str, ExamScores]:
    """Of every member, by these families alone."""
    return {
        member: ExamScores(np.array(one["good"]), {family: np.array(one["defects"][family]) for family in families})
        for member, one in found["exam"].items()
    }


@cache
def judged_runs(of: str) -> list[tuple[Choice, dict[str, np.ndarray], np.ndarray, list[str]]]:
    """Of every kept run the choice, the scores of the test images by every candidate's name, which of them are defects, and
    their tiles."""
    judged = []
    for found in kept_runs(of):
        exams = exams_of(found)
        choice = choose(exams, costs(list(exams)), found["groups"])
        judged.append((choice, *tested(found), [row[1] for row in found["test"]]))
    return judged


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


@cache
def kept_runs(of: str) -> list[dict[str, Any]]:
    """Those whose file's name begins so, with the `seed` of that name. A surface's cracks are left out: the criterion draws
    such defects too."""
    paths = sorted(RUNS.glob(f"{of}*.json"))
    kept = [json.loads(path.read_text(encoding="utf-8")) | {"seed": path.stem.rsplit("-", 1)[1]} for path in paths]
    for found in kept if of == SURFACE else []:
        found["test"] = [row for row in found["test"] if Path(row[0]).parts[1] not in FAMILIES]
    return kept


def table(of: str) -> str:
    """A line for each candidate, means over the runs whose file's name begins so."""
    kept = kept_runs(of)
    runs = judged_runs(of)
    if not runs:
        return f"{of}: no runs yet"
    seeds = [found["seed"] for found in kept]
    header = "candidate | criterion | image AUROC | AUPRO | AUPRO 0.05 | taken | then behind the best: AUROC | AUPRO"
    lines = [header, "|".join(["---"] * 8)]
    real = [{name: 100 * auroc(values, labels) for name, values in scores.items()} for _, scores, labels, _ in runs]
    labels = np.concatenate([each[2] for each in runs])
    tiles = [tile for _, _, _, of_run in runs for tile in of_run]
    owner = np.repeat(np.arange(len(runs)), [len(each[2]) for each in runs])

    def cell(of_run: list[str]) -> str:
        values = np.concatenate([each[1][name] for each, name in zip(runs, of_run, strict=True)])

        def mean(drawn: np.ndarray) -> np.ndarray:
            parts = [drawn[owner[drawn] == number] for number in range(len(runs))]
            return np.array([np.mean([auroc(values[part], labels[part]) for part in parts])])

        ends = interval(mean, tiles, draws=200)
        aurocs = [each[name] for each, name in zip(real, of_run, strict=True)]
        of_seeds = [np.mean([value for value, own in zip(aurocs, seeds, strict=True) if own == seed]) for seed in set(seeds)]
        spread = f" [{min(of_seeds):.1f}, {max(of_seeds):.1f}]" if len(of_seeds) > 1 else ""
        return f"{np.mean(aurocs):.1f}{spread} ({100 * ends.low[0]:.1f}-{100 * ends.high[0]:.1f})"

    taken = [choice.chosen.name for choice, *_ in runs]
    lost = [max(each.values()) - each[name] for each, name in zip(real, taken, strict=True)]
    aupros, low = (
        [{name: 100 * area[rate] for name, area in found["aupro"].items()} for found in kept] for rate in ("0.3", "0.05")
    )
    lost_maps = [max(each.values()) - each[name] for each, name in zip(aupros, taken, strict=True)]

    def behind(name: str | None) -> list[str]:
        """Of the runs where auto takes that candidate, or of all."""
        cells = []
        for of_all, near in ((lost, NEAR), (lost_maps, NEAR_MAPS)):
            own = [points for points, each in zip(of_all, taken, strict=True) if name in (None, each)]
            count = sum(points <= near for points in own)
            cells.append(f"{count} of {len(own)} within {near}, {max(own):.1f} at most" if own else "-")
        return cells

    for name in real[0]:
        criteria = [next(c.criterion.value for c in choice.candidates if c.name == name) for choice, *_ in runs]
        figures = [f"{np.mean(criteria):.2f}", cell([name] * len(runs))]
        figures += [f"{np.mean([each[name] for each in areas]):.1f}" for areas in (aupros, low)]
        lines.append(" | ".join([name, *figures, f"{taken.count(name)}", *behind(name)]))
    maps = [f"{np.mean([each[name] for each, name in zip(areas, taken, strict=True)]):.1f}" for areas in (aupros, low)]
    lines.append(" | ".join(["what auto takes", "-", cell(taken), *maps, f"{len(runs)}", *behind(None)]))
    return "\n".join(f"| {line} |" for line in lines)


def kinds() -> str:
    """Image AUROC by kind of defect in percent, means over the runs of the folds; a line for each detector alone and for what
    auto takes."""
    kept = kept_runs("fold")
    if not kept:
        return "kinds: no runs yet"
    aurocs: dict[str, dict[str, list[float]]] = {}
    for found, (choice, scores, labels, _) in zip(kept, judged_runs("fold"), strict=True):
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
