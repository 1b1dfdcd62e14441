"""Makes the artifact of a fitted detector: its threshold, the record of its training, its card."""

import platform
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from jobs.images.good import GoodSet
from jobs.settings.training import TrainSettings
from jobs.training.fitting import Trained
from models import artifact
from models.card import card
from models.detector import Detector, FitRun
from models.fitting.fit import Fitted
from models.fitting.groups import Groups
from models.verdicts.map_threshold import map_threshold, pieces_needed
from pipeline.storage.copies import replace_directory


def save(
    settings: TrainSettings,
    found: Trained,
    read: GoodSet,
    groups: Groups,
    sets: tuple[np.ndarray, np.ndarray, np.ndarray],
    place: Path | None,
) -> artifact.Artifact:
    """The artifact, at its place or in storage."""
    detector, run, fitted, selection = found.detector, found.run, found.fitted, sets[1]
    trained = _trained(run, read, groups, sets, fitted)
    if settings.light:  # a model without it keeps the digest that it had
        trained["light"] = {"strength": settings.light, "copies": settings.light_copies}
    if fitted.under_light is not None and fitted.figures_say_something:
        figures = {"value": fitted.under_light.value, "synthetic_auroc": fitted.under_light.families}
        trained["criterion_under_light"] = {"strength": settings.criterion_light} | figures
    if found.choice is not None:
        trained["candidates"] = [
            {"members": each.members, "criterion": each.criterion.value, "behind": each.behind, "error": each.standard_error}
            for each in found.choice.candidates
        ]
    pieces = read.pieces(selection, settings.group_key)
    threshold = _map_threshold(fitted.held_out_maxima, pieces, settings.group_key or "image", settings.region_share)
    update = {"name": _name(settings, detector), "trained": trained, "map_threshold": threshold}
    config = detector.config.model_copy(update=update)
    detector.to("cpu")
    with tempfile.TemporaryDirectory(prefix="flowscore-model-") as folder:
        target = place or Path(folder) / "model"
        saved = artifact.save(target, config, detector, card(config))
        if place is None:
            replace_directory(target, settings.model_out, artifact.DIGESTS, artifact.CALIBRATION_FILES)
    return saved


def _map_threshold(maxima: np.ndarray, pieces: list[str], unit: str, share: float) -> float | None:
    """The map's threshold, from maps of held-out good images; None where they are too few. Prints one line about it."""
    if not len(maxima):
        print("no regions: no good images were held out to set the threshold of the map (--selection-share 0)")
        return None
    count, threshold = len(set(pieces)), map_threshold(maxima, pieces, share)
    if threshold is None:
        print(
            f"no regions: {count} held-out good pieces (by {unit}) cannot set a threshold of the map that a new one exceeds "
            f"with at most {share:.3g}; {pieces_needed(share)} can. Give more images, --selection-share or region_share"
        )
        return None
    print(f"map threshold {threshold:.4g}: a new good piece exceeds it with at most {share:.3g}, by {count} held out ({unit})")
    return threshold


def _trained(
    run: FitRun, read: GoodSet, groups: Groups, sets: tuple[np.ndarray, np.ndarray, np.ndarray], fitted: Fitted
) -> dict[str, Any]:
    """The record of the training in the artifact. A repeated command writes the same one."""
    calibration, selection, fitting = sets
    hashes = np.array(read.hashes)
    families = fitted.chosen.families if fitted.chosen and fitted.figures_say_something else {}
    return {
        "images": len(read.hashes),
        "fit": len(fitting),
        "selection": len(selection),
        "calibration": len(calibration),
        "unreadable": dict(sorted(read.unreadable.items())),
        "excluded": read.excluded,
        "samples": len(read.owners),
        "groups": groups.count(),
        "groups_by": groups.basis,
        "seed": run.seed,
        "epochs": fitted.epochs,
        "training": run.training.model_dump(mode="json"),
        "criterion": fitted.history,
        "synthetic_auroc": families,
        "synthetic_severity": fitted.severities,
        "device": run.device,
        "versions": {name: version(name) for name in ("torch", "timm", "numpy")} | {"python": platform.python_version()},
        # 32 hex digits for each image, sorted and joined: calibrate refuses an image that it finds here.
        "content_hashes": {
            "fit": "".join(sorted(hashes[fitting].tolist())),
            "selection": "".join(sorted(hashes[selection].tolist())),
        },
    }


def _name(settings: TrainSettings, detector: Detector) -> str:
    """The name that is given, else one made of the detector and its backbone, if it has one."""
    backbone = detector.config.backbone
    return settings.name or "-".join([detector.config.detector, *([backbone.name.replace("/", "-")] if backbone else [])])
