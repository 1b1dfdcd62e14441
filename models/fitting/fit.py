"""Fits a detector to stored good images: it stops early without labels, then fits again to all images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.arithmetic import set_arithmetic
from models.detector import Detector, FitRun, Step
from models.features.store import ImageFeatures
from models.features.variation import check_varied
from models.fitting.checkpoint import Checkpoint
from models.fitting.exam import Exam
from models.fitting.light import Learned
from models.fitting.light_exam import LightExam, light_exam
from models.fitting.selected import Epoch, Selected, WholeMaxima
from models.fitting.selection import LEAST_GROUPS, LEAST_HELD_OUT, Criterion, can_weigh
from models.metrics.few import says_something


@dataclass
class Fitted:
    """How the detector was fitted: the epochs of the kept fit (None if it has none), and the selection's figures (empty
    without one). stored_bytes: what pixels and features took on disk. held_out_maxima: the largest map value of every
    held-out image, (N,), float32, before the refit. figures_say_something: whether the selection had enough images for its
    AUROC to mean anything. under_light: the criterion with good images in other light too, if it was asked for."""

    epochs: int | None
    stored_bytes: int
    history: list[float] = field(default_factory=list)
    chosen: Criterion | None = None
    severities: dict[str, float] = field(default_factory=dict)
    held_out_maxima: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    figures_say_something: bool = False
    under_light: Criterion | None = None


def figures_say_something(selection: int) -> bool:
    """Whether the AUROC of defects drawn on so many selection images means anything.

    >>> figures_say_something(2), figures_say_something(3)
    (False, True)
    """
    return says_something(selection, selection)


def fit(
    detector: Detector,
    images: ImageFeatures,
    fit_positions: Tensor,
    selection: Tensor,
    groups: Sequence[str],
    run: FitRun,
    patience: int,
    workspace: Path,
    on_phase: Callable[[str], None] = lambda phase: None,
    on_step: Callable[[str, Step], None] = lambda phase, step: None,
    say: Callable[[str], None] = lambda line: None,
    identity: str | None = None,
    learned: Learned | None = None,
    criterion_light: float = 0.0,
    image_groups: Sequence[str] | None = None,
    whole_maxima: WholeMaxima | None = None,
) -> Fitted:
    """Fit the detector in place.

    Without selection images it is fitted once, with the settings as they are. With them, it is fitted to the fit images
    first, and the criterion is taken after every epoch (`selection.EarlyStop`), or once if the fit has no epochs. Then it is
    fitted again, from the start, to fit and selection images together, for the number of epochs that the first fit kept.

    Args:
        fit_positions, selection: int64 positions in `images`, disjoint.
        groups: the group of every selection position.
        run: settings, seed and device; its callbacks are replaced by on_step and the exam.
        workspace: a directory for the features of the synthetic defects, and for the state.
        on_phase: called with "defects", "selection" and "training" where these phases begin.
        on_step: called with "selection" or "training" and the step.
        identity: of all that decides the result. The state is kept under it after every epoch, and a fit that was interrupted
            goes on there, to the same bits. None keeps nothing.
        learned: what the detector is fitted to, made of `images`, which the selection is taken from; None: the images
            themselves.
        criterion_light: strength of the gradients under which good images stand for the criterion under light
            (models/fitting/light_exam.py); 0 takes none. It changes no weight.
        image_groups: the group of every held-out image, where `images` has several tiles of one; None: `groups`.
        whole_maxima: the largest map values of these images, of which `images` has only some tiles; called once, with the kept
            epoch's weights. None: those of the maps at the selection positions.

    >>> import tempfile
    >>> from models import registry
    >>> from models.config import ArtifactConfig, InputConfig
    >>> from models.backbones.config import BackboneConfig
    >>> network, size = BackboneConfig(name="test_resnet", weights="none"), InputConfig(height=64, width=64)
    >>> config = ArtifactConfig(name="tile", detector="padim", input=size, backbone=network, hyperparameters={"dims": 8})
    >>> detector = registry.build(config)
    >>> with tempfile.TemporaryDirectory() as folder, ImageFeatures(detector, Path(folder), "fit") as images:
    ...     images.append(torch.randint(0, 256, (4, 64, 64, 3), dtype=torch.uint8))
    ...     run = FitRun(training=detector.Training())
    ...     fit(detector, images, torch.arange(4), torch.arange(0), [], run, patience=3, workspace=Path(folder)).history
    []
    """
    set_arithmetic()
    check_varied(images.read, fit_positions)  # before defects are made
    learned = learned or Learned(images)
    epochs: int | None = getattr(run.training, "epochs", None)
    last = replace(run, on_step=lambda step: on_step("training", step), after_epoch=None)
    state = _State(workspace, identity, say)
    held_out = groups if image_groups is None else image_groups
    weighs = can_weigh(held_out)
    if detector.weighs and not weighs:
        needs = f"to weigh its parts takes {LEAST_HELD_OUT} images of {LEAST_GROUPS} groups for selection (--selection-share)"
        say(f"score: that of the flow alone; {needs}, and there are {len(held_out)} of {len(set(held_out))}")
    if not len(selection):
        on_phase("training")
        detector.fit(learned.features, learned.of(fit_positions), replace(last, checkpoint=state.training(epochs)))
        return Fitted(epochs, images.stored_bytes + learned.stored_bytes)

    selected = Selected(patience, groups)
    first = state.selection(epochs, selected)
    telling = figures_say_something(len(held_out))
    say_figures = say if telling else lambda line: None
    if first is None or not first.ended:
        told = replace(run, on_step=lambda step: on_step("selection", step), checkpoint=first)
        with (
            ImageFeatures(detector, workspace, "synthetic", run.device, identity, say) as defects,
            light_exam(detector, images, selection, criterion_light, told, workspace, identity) as lit,
        ):
            exam = Exam(detector, images, selection, defects, told)
            if defects.about is None:
                on_phase("defects")
                gaussian = exam.make(fit_positions)
                defects.complete(exam.severities)
                say_figures(f"synthetic defects: a Gaussian on the same features gets {_text(gaussian.criterion())}")
            else:
                exam.severities = defects.about
            on_phase("selection")
            _select(detector, learned, fit_positions, told, exam, lit, selected, say_figures, weighs, whole_maxima)
    stop = selected.stop
    chosen = stop.epochs()
    if epochs is not None:
        say(f"keeping {chosen} of {len(stop.history)} epochs; fitting again to fit and selection images")
        last = replace(last, training=run.training.model_copy(update={"epochs": chosen}))
        epochs = chosen
    everything = torch.cat([fit_positions, selection]).sort().values
    on_phase("training")
    detector.fit(learned.features, learned.of(everything), replace(last, checkpoint=state.training(epochs)))
    weights = detector.state_dict()
    kept = selected.epochs[chosen - 1]
    for name, value in kept.constants.items():
        weights[name].copy_(value)
    history = [result.value for result in stop.history]
    if kept.under_light is not None:
        say_figures(f"under light: {_text(kept.under_light)}")
    return Fitted(
        epochs,
        images.stored_bytes + learned.stored_bytes + selected.stored_bytes,
        history,
        stop.history[chosen - 1],
        selected.severities,
        kept.maxima if selected.whole is None else selected.whole,
        telling,
        under_light=kept.under_light,
    )


class _State:
    """The checkpoints of both fits, and one line that says where an interrupted one goes on. identity: None keeps nothing."""

    def __init__(self, workspace: Path, identity: str | None, say: Callable[[str], None]):
        self._workspace, self._identity, self._say = workspace, identity, say
        self._resumed = False

    def selection(self, epochs: int | None, selected: Selected) -> Checkpoint | None:
        found = self._checkpoint("selection")
        if found is not None:
            found.keep(selected=selected)
            self._resumed = found.ended
            if found.epochs and not found.ended:
                self._say(f"going on at epoch {found.epochs + 1} of {epochs} of the selection")
        return found

    def training(self, epochs: int | None) -> Checkpoint | None:
        found = self._checkpoint("training")
        if found is not None and found.ended:
            self._say("going on after the last epoch of the training")
        elif found is not None and (found.epochs or self._resumed):
            self._say(
                "going on with the training"
                if epochs is None
                else f"going on at epoch {found.epochs + 1} of {epochs} of the training"
            )
        return found

    def _checkpoint(self, phase: str) -> Checkpoint | None:
        if self._identity is None:
            return None
        return Checkpoint(self._workspace / f"{phase}.state", f"{phase} {self._identity}", self._say)


def _select(
    detector: Detector,
    learned: Learned,
    fit_positions: Tensor,
    run: FitRun,
    exam: Exam,
    lit: LightExam | None,
    selected: Selected,
    say: Callable[[str], None],
    weighs: bool,
    whole_maxima: WholeMaxima | None,
) -> None:
    """Fit to the fit images, and put into `selected` what the exam says after every epoch. weighs: whether the selection's
    images give the constants of the score."""
    selected.severities = exam.severities
    epochs = getattr(run.training, "epochs", 1)

    def after_epoch(epoch: int) -> bool:
        constants = detector.fit_constants(exam.images, exam.selection) if weighs else {}
        scores, maxima = exam.take()
        ended = selected.stop.update(scores) or epoch + 1 == epochs
        under_light = None if lit is None else lit.take(scores).criterion()
        selected.stored_bytes = exam.defects.stored_bytes + (0 if lit is None else lit.stored_bytes)
        selected.epochs.append(Epoch(constants, maxima, under_light))
        say(f"epoch {epoch + 1}: synthetic defects {_text(selected.stop.history[-1])}")
        if whole_maxima is not None:
            selected.look_at_whole(detector, ended, whole_maxima)
        return ended

    detector.fit(learned.features, learned.of(fit_positions), replace(run, after_epoch=after_epoch))
    if not selected.epochs:  # a fit without epochs
        after_epoch(0)
        if run.checkpoint is not None:
            run.checkpoint.save(1, ended=True)


def _text(result: Criterion) -> str:
    families = ", ".join(f"{name} {100 * value:.1f}" for name, value in result.families.items())
    return f"criterion {result.value:.3f} (AUROC: {families})"
