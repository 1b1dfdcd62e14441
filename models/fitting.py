"""From stored good images to a fitted flow: whitening, early stopping without labels, refit on all of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models import synthetic
from models.detectors.csflow import CsFlow
from models.features import FeatureStore, StoredRows, batches
from models.flows.likelihood import scale_means
from models.selection import Criterion, EarlyStop, ExamScores, choose_severity
from models.training import Step, TrainingConfig, train
from models.whitening import Moments

Maps = list[Tensor]
SEVERITY_IMAGES = 48  # how many selection images set the severities


@dataclass
class GoodImages:
    """What was read: pixels, (N, H, W, 3) uint8, and the detector's features of the same images, both on disk."""

    pixels: StoredRows
    features: FeatureStore


@dataclass
class Fitted:
    """How the flow came about: epochs of the flow that was kept, and the selection's figures (empty without one)."""

    epochs: int
    history: list[float] = field(default_factory=list)
    chosen: Criterion | None = None
    severities: dict[str, float] = field(default_factory=dict)


def fit(
    detector: CsFlow,
    images: GoodImages,
    fit_positions: Tensor,
    selection: Tensor,
    groups: Sequence[str],
    config: TrainingConfig,
    patience: int,
    seed: int,
    workspace: Path,
    device: str = "cpu",
    on_step: Callable[[str, Step], None] = lambda phase, step: None,
    say: Callable[[str], None] = lambda line: None,
) -> Fitted:
    """Fit the detector in place.

    Without selection images the flow is trained for config.epochs. With them, it is trained on the fit images first and
    the criterion taken after every epoch (`selection.EarlyStop`); then once more, from the start, on fit and selection
    images together, for as many epochs as that kept.

    Args:
        fit_positions, selection: int64 positions in `images`, disjoint.
        groups: the group of every selection image.
        workspace: a directory for the features of the synthetic defects.
        on_step: called with "selection" or "training" and the step.
    """
    initial = {key: value.clone() for key, value in detector.flow.state_dict().items()}
    moments = [Moments(rows.shape[0]) for rows in images.features.scales]
    _add(moments, images.features, fit_positions)
    detector.fit_whitening(moments)
    whiten = detector.whitening
    if not len(selection):
        train(detector.flow, whiten, images.features, fit_positions, config, seed, device, lambda s: on_step("training", s))
        return Fitted(config.epochs)

    with FeatureStore(workspace, "synthetic") as store:
        exam = Exam(detector, images, selection, store, seed, device)
        say(f"synthetic defects: a Gaussian on the same features gets {_text(exam.scores(exam.gaussian).criterion())}")
        stop = EarlyStop(patience, groups)
        scale_constants: list[tuple[Tensor, Tensor]] = []

        def after_epoch(epoch: int) -> bool:
            ended = stop.update(exam.take())
            scale_constants.append((detector.scale_log_mean.clone(), detector.scale_log_std.clone()))
            say(f"epoch {epoch + 1}: synthetic defects {_text(stop.history[-1])}")
            return ended

        train(
            detector.flow,
            whiten,
            images.features,
            fit_positions,
            config,
            seed,
            device,
            lambda s: on_step("selection", s),
            after_epoch,
        )
        severities = exam.severities
    epochs = stop.epochs()
    say(f"keeping {epochs} of {len(stop.history)} epochs; training again on fit and selection images")
    detector.flow.load_state_dict(initial)
    _add(moments, images.features, selection)
    detector.fit_whitening(moments)
    everything = torch.cat([fit_positions, selection]).sort().values
    again = config.model_copy(update={"epochs": epochs})
    train(detector.flow, whiten, images.features, everything, again, seed, device, lambda s: on_step("training", s))
    for buffer, value in zip((detector.scale_log_mean, detector.scale_log_std), scale_constants[epochs - 1], strict=True):
        buffer.copy_(value)
    history = [result.value for result in stop.history]
    return Fitted(epochs, history, stop.history[epochs - 1], severities)


class Exam:
    """Selection images and synthetic defects made of them, their features stored once; taken after every epoch."""

    def __init__(self, detector: CsFlow, images: GoodImages, selection: Tensor, store: FeatureStore, seed: int, device: str):
        self.detector, self.images, self.selection, self.store, self.device = detector, images, selection, store, device
        pixels = images.pixels.read(selection).numpy()
        few = pixels[:: max(1, len(pixels) // SEVERITY_IMAGES)]
        good = self._scores(images.features, selection, self.gaussian)
        self.severities = {}
        for family in synthetic.FAMILIES:

            def gaussian(severity: float, family: str = family) -> NDArray[np.float32]:
                defects = synthetic.make(family, few, severity, seed)
                return self._scores_of(defects, self.gaussian)

            self.severities[family] = choose_severity(family, gaussian, good)
            defects = synthetic.make(family, pixels, self.severities[family], seed + 1)
            for start in range(0, len(defects), 16):
                store.append(detector.extract(torch.from_numpy(defects[start : start + 16]).to(device)))

    def gaussian(self, features: Maps) -> Tensor:
        """The squared Mahalanobis distance's mean over all elements, (B,): the score of an untrained flow."""
        total = sum(x.square().sum(dim=(1, 2, 3)) for x in features)
        assert isinstance(total, Tensor)
        return total / sum(x[0].numel() for x in features)

    def take(self) -> ExamScores:
        """The scores of the detector as it is."""
        if self.detector.hyper.score == "scales":
            self.detector.fit_scales(self._scale_means())
        return self.scores(lambda features: self.detector.score_features(features).score)

    def scores(self, score: Callable[[Maps], Tensor]) -> ExamScores:
        good = self._scores(self.images.features, self.selection, score)
        count = len(self.selection)
        defects = {
            family: self._scores(self.store, torch.arange(i * count, (i + 1) * count), score)
            for i, family in enumerate(synthetic.FAMILIES)
        }
        return ExamScores(good, defects)

    @torch.inference_mode()
    def _scores(
        self, store: FeatureStore, positions: Tensor, score: Callable[[Maps], Tensor], size: int = 16
    ) -> NDArray[np.float32]:
        parts = []
        for batch in batches(positions, size):
            features = self.detector.whitening([x.to(self.device) for x in store.read(batch)])
            parts.append(score(features).cpu().numpy())
        return np.concatenate(parts)

    @torch.inference_mode()
    def _scores_of(self, pixels: NDArray[np.uint8], score: Callable[[Maps], Tensor]) -> NDArray[np.float32]:
        parts = [
            score(self.detector.features(torch.from_numpy(pixels[start : start + 16]).to(self.device))).cpu().numpy()
            for start in range(0, len(pixels), 16)
        ]
        return np.concatenate(parts)

    @torch.inference_mode()
    def _scale_means(self) -> Tensor:
        parts = []
        for batch in batches(self.selection, 16):
            features = self.detector.whitening([x.to(self.device) for x in self.images.features.read(batch)])
            parts.append(scale_means(self.detector.flow.latents(features)).cpu())
        return torch.cat(parts)


def _add(moments: list[Moments], features: FeatureStore, positions: Tensor) -> None:
    for batch in batches(positions, 32):
        for moment, x in zip(moments, features.read(batch), strict=True):
            moment.update(x)


def _text(result: Criterion) -> str:
    families = ", ".join(f"{name} {100 * value:.1f}" for name, value in result.families.items())
    return f"criterion {result.value:.3f} (AUROC: {families})"
