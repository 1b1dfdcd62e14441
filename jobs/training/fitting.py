"""The fit of `flowscore train`: of the detector that is named, or of the one that is chosen for these images."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
import torch

from jobs.command.errors import UsageError
from jobs.images.good import GoodSet
from jobs.settings.training import AUTO, TrainSettings
from jobs.training.auto import chosen
from jobs.training.own_settings import training_of
from jobs.training.phases import CHOOSING, Phases
from jobs.training.whole_maps import whole_maxima
from jobs.training.workspace import Workspace
from models.config import ArtifactConfig
from models.detector import Detector, FitRun
from models.detectors.ensemble import NAME
from models.features.store import ImageFeatures
from models.fitting.choice import Choice
from models.fitting.fit import Fitted, fit
from models.fitting.groups import Groups
from models.fitting.light import Light, with_copies
from models.fitting.selection import LEAST_GROUPS, LEAST_HELD_OUT, can_weigh


class Trained(NamedTuple):
    """The fitted detector, the run that fitted it, and what came of it. choice: among what the detector was chosen; None if it
    was named.  stored_bytes: the most that pixels and features took on disk."""

    detector: Detector
    run: FitRun
    fitted: Fitted
    choice: Choice | None
    stored_bytes: int


def fitted_to(
    settings: TrainSettings,
    config: ArtifactConfig,
    images: ImageFeatures,
    read: GoodSet,
    groups: Groups,
    fitting: np.ndarray,
    selection: np.ndarray,
    run: FitRun,
    workspace: Workspace,
    phases: Phases,
) -> Trained:
    """Fit to the images at the positions `fitting`, with those at `selection` held out; both int64, of images, not of samples.

    config: of the images' detector, as it was built.
    """
    detector, choice, choosing_bytes = images.detector, None, 0
    positions = torch.from_numpy(read.samples(fitting)), torch.from_numpy(read.samples(selection))
    names = [groups.names[read.owners[i]] for i in positions[1]]  # of samples
    held_out = [groups.names[i] for i in selection]  # of images
    phases.left.growth = (len(positions[0]) + len(positions[1])) / max(1, len(positions[0]))
    run, identity = replace(run, on_work=phases.work), workspace.identity_with(read.hashes)
    place, begin, step, tell = workspace.folder, phases.begin, phases.step, phases.tell
    if settings.detector in (AUTO, NAME):
        check_held_out(settings, held_out)
    if settings.detector == AUTO:
        begin(CHOOSING)
        found = chosen(config, images, *positions, names, run, place, identity, tell)
        detector, images, choice, choosing_bytes = found.detector, found.images, found.choice, found.stored_bytes
        run = replace(run, training=training_of(detector, found.training))
        identity = identity and f"{identity} {choice.chosen.name}"
    fitted = partial(fit, detector, images, *positions, names, run, settings.patience, place, begin, step, tell, identity)
    fitted = partial(fitted, criterion_light=settings.criterion_light, image_groups=held_out)
    if config.input.resize == "tile":  # tiles that are kept are only some of an image's
        contents = [read.hashes[i] for i in selection]
        fitted = partial(fitted, whole_maxima=partial(whole_maxima, settings.source_of_input(), contents, run))
    if not settings.light:
        result = fitted()
    else:
        light, every = Light(settings.light, settings.light_copies), torch.cat(positions).sort().values
        with with_copies(detector, images, every, light, run, place, begin, tell, identity) as learned:
            result = fitted(learned=learned)
    return Trained(detector, run, result, choice, max(result.stored_bytes, choosing_bytes))


def check_held_out(settings: TrainSettings, groups: Sequence[str]) -> None:
    """Raises UsageError where too few images, or images of one group only, are held out to compare or weigh detectors by.

    groups: of every held-out image.
    """
    if not can_weigh(groups):
        rule = f"enough to hold out {LEAST_HELD_OUT} images of {LEAST_GROUPS} groups with --detector {settings.detector}"
        fix = f"It holds out {len(groups)} of {len(set(groups))}. Raise it, give more images, or name one detector."
        raise UsageError("--selection-share", rule, settings.selection_share, fix)
