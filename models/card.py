"""The card of a trained model: what a person should know before relying on it."""

from collections.abc import Sequence
from typing import Any

from models.config import ArtifactConfig


def card(config: ArtifactConfig, promises: Sequence[str] = ()) -> str:
    """The card as Markdown. It is the same for every run of the same training and calibration.

    promises: what a calibration promises, sentence by sentence; none if there is no calibration.

    >>> counts = {"images": 40, "fit": 30, "selection": 10, "calibration": 0, "excluded": 0, "unreadable": {}, "groups": 8}
    >>> made = {"groups_by": "the key lot", "seed": 0, "epochs": None, "device": "cpu", "training": {}, "versions": {}}
    >>> config = ArtifactConfig(name="tile", detector="padim", trained={**counts, **made, "synthetic_auroc": {}})
    >>> card(config).splitlines()[6]
    '- 40 good images: 30 to fit, 10 for selection, 0 kept for calibration'
    """
    made = config.trained
    size = f"{config.input.height} x {config.input.width} pixels, {config.input.resize}"
    unreadable = ", ".join(f"{count} {reason}" for reason, count in made["unreadable"].items()) or "none"
    network = config.backbone
    counted = "" if config.input.roi is None else f", of which {config.input.roi.share:.1%} counts (a region of interest)"
    even = ", each brought to even light first (shading correction)" if config.input.shading_correction else ""
    backbone = f"{network.name}, taps {list(network.taps)}" if network else "an encoder of its own"
    lines = [
        f"# {config.name}",
        "",
        f"Detector {config.detector} on {backbone}; images at {size}{counted}{even}. "
        "It was trained on good images only; a higher score means less like them.",
        "",
        "## Made from",
        "",
        f"- {made['images']} good images: {made['fit']} to fit, {made['selection']} for selection, "
        f"{made['calibration']} kept for calibration",
        f"- unreadable and left out: {unreadable}; left out by a person: {made['excluded']}",
        f"- {made['groups']} groups, found by {made['groups_by']}; no group is on two sides",
        f"- seed {made['seed']}, {_epochs(config)}on {made['device']}, convolutions in {config.precision}",
        *([f"- the backbone's weights have the licence {network.licence}"] if network and network.licence else []),
        *_light(made),
        f"- settings: {made['training']}; {_settings(config)}",
        f"- versions: {made['versions']}",
        "",
        "## Expected",
        "",
    ]
    if made["synthetic_auroc"]:
        lines += [f"- synthetic {name}: AUROC {100 * value:.1f}" for name, value in made["synthetic_auroc"].items()]
        lines += [
            "",
            "These are drawn defects on held-out good images. They stop a training that has epochs; they do not say how "
            "well real defects are found. `flowscore evaluate` does, with labelled images.",
        ]
    else:
        few = (
            f"{made['selection']} selection images are too few to say" if made["selection"] else "No selection images were kept"
        )
        lines += [f"{few}, so nothing is known yet: run `flowscore evaluate` with labelled images."]
    if promises:
        lines += ["", "## Calibration", "", *(f"- {line}" for line in promises)]
    lines += ["", "## Limits", ""]
    if promises:
        lines += ["- The calibration speaks of good pieces only. How many defects are found is another matter."]
    elif not made["calibration"]:
        lines += ["- Not calibrated: no good image was kept for it. Scores rank images; they carry no false-alarm rate."]
    else:
        lines += ["- Not calibrated yet: run `flowscore calibrate`; until then scores carry no false-alarm rate."]
    lines += [
        "- Scores compare only with scores of this model, on images of this size.",
        "- New products, cameras, lights or surfaces score high because they are new, not because they are defective.",
        "- Defects smaller than a cell of the map, or that the backbone does not see at this image size, are missed.",
    ]
    return "\n".join(lines) + "\n"


def _light(made: dict[str, Any]) -> list[str]:
    """A line about copies in other light, if there were any."""
    if "light" not in made:
        return []
    strength, copies = made["light"]["strength"], made["light"]["copies"]
    return [f"- fitted also to copies of the images in light that differs by up to {100 * strength:.3g} %, {copies} of each"]


def _epochs(config: ArtifactConfig) -> str:
    """Of an ensemble none: every member has its own among its settings."""
    return "" if "members" in config.hyperparameters else f"{config.trained['epochs'] or 1} epochs, "


def _settings(config: ArtifactConfig) -> str:
    """The hyper-parameters, without what building the network found out."""
    members = config.hyperparameters.get("members")
    if members is None:
        return str(config.hyperparameters or "default hyper-parameters")
    told = [{key: value for key, value in member.items() if key != "structure"} for member in members]
    return str(config.hyperparameters | {"members": told})
