"""`train --detector auto`: fits several detectors once to the same features, and says which one, or which together, to train.

The candidates are the members of one ensemble, so the backbone runs once for all. The chosen one is then trained as if it had
been named, with a selection of its own: the others leave no trace in its weights.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from jobs.command.errors import UsageError
from jobs.settings.training import AUTO
from models import registry
from models.choosing import costs
from models.config import ArtifactConfig
from models.detector import Detector, FitRun
from models.detectors.ensemble import NAME, Ensemble, EnsembleConfig
from models.features.store import ImageFeatures
from models.fitting.checkpoint import Checkpoint
from models.fitting.choice import Choice, choose
from models.fitting.exam import Exam
from models.fitting.selection import ExamScores
from models.maps.grids import Maps

DRAWN = f"{AUTO}-synthetic"
CANDIDATES: dict[str, Any] = {"members": [{"detector": "csflow"}, {"detector": "padim"}, {"detector": "fastflow"}]}


class Chosen(NamedTuple):
    """What is trained after all, with the images' features as it reads them, and its own settings of fit.

    stored_bytes: what choosing took on disk, the images among it."""

    detector: Detector
    images: ImageFeatures
    training: dict[str, Any]
    choice: Choice
    stored_bytes: int


def of_candidates(config: ArtifactConfig) -> ArtifactConfig:
    """The config of the ensemble of all candidates: those that its hyper-parameters name, or the usual ones.

    Raises UsageError for a detector that is there twice.
    """
    found = config.model_copy(update={"detector": NAME, "hyperparameters": config.hyperparameters or CANDIDATES})
    members = found.hyperparameters.get("members")
    names = [member.get("detector") for member in members if isinstance(member, dict)] if isinstance(members, list) else []
    if len(set(map(str, names))) < len(names):
        raise UsageError("hyperparameters.members", "different detectors with --detector auto", names, "Name each once.")
    return found


def chosen(
    config: ArtifactConfig,
    images: ImageFeatures,
    fitting: Tensor,
    selection: Tensor,
    groups: Sequence[str],
    run: FitRun,
    folder: Path,
    identity: str | None,
    say: Callable[[str], None],
) -> Chosen:
    """Fit all candidates, and choose by synthetic defects.

    Args:
        config: as `of_candidates` gives it.
        images: read by the ensemble that was built of it.
        fitting, selection: int64 positions of images to fit to, (N,), and of those that defects are drawn on, (S,).
        groups: the group of every selection image.
        identity: of all that decides the result, under which the fits and the scores are kept; None keeps nothing.
    """
    ensemble, exam = images.detector, Examined()
    assert isinstance(ensemble, Ensemble)
    kept = None if identity is None else Checkpoint(folder / f"{AUTO}.state", f"{AUTO} {identity}", say)
    if kept is not None:
        kept.keep(exam=exam)
    if kept is None or not kept.ended:
        exam.take(ensemble, images, fitting, selection, replace(run, checkpoint=kept), folder, identity)
        if kept is not None:
            kept.save(1, ended=True)
    for drawn in folder.glob(f"{DRAWN}*"):  # what is kept of the defects, also by a process that was killed
        drawn.unlink()
    names = [member.detector for member in EnsembleConfig.model_validate(config.hyperparameters).members]
    choice = choose(dict(zip(names, exam.scores, strict=True)), costs(names), groups)
    for line in choice.table():
        say(line)
    detector, training, levels = _alone(config, ensemble, choice.chosen.members)
    ensemble.to("meta")  # its weights are not needed any more, and a GPU may have no room for both
    detector.to(run.device)
    return Chosen(detector, images.of_part(detector, levels), training, choice, exam.stored_bytes)


class Examined:
    """scores: of every member.  stored_bytes: what images and defects took."""

    def __init__(self) -> None:
        self.scores: list[ExamScores] = []
        self.stored_bytes = 0

    def take(
        self,
        ensemble: Ensemble,
        images: ImageFeatures,
        fitting: Tensor,
        selection: Tensor,
        run: FitRun,
        folder: Path,
        identity: str | None = None,
    ) -> None:
        """Fit the ensemble, and take its members' scores. identity: under which the defects stay in the folder."""
        with ImageFeatures(ensemble, folder, DRAWN, run.device, identity and f"{DRAWN} {identity}") as defects:
            exam = Exam(ensemble, images, selection, defects, run)
            if defects.about is None:
                exam.make(fitting)
                defects.complete(exam.severities)
            ensemble.fit(images, fitting, run)
            ensemble.fit_constants(images, selection)

            def of_members(maps: Maps) -> Tensor:
                return torch.stack([scored.score for scored in ensemble.of_members(maps)], 1)  # (B, members)

            found = exam.scores(of_members)
            self.stored_bytes = images.stored_bytes + defects.stored_bytes
        self.scores = [
            ExamScores(found.good[:, i], {family: scores[:, i] for family, scores in found.defects.items()})
            for i in range(len(ensemble.members))
        ]

    def state_dict(self) -> dict[str, Any]:
        return {"scores": [(one.good, dict(one.defects)) for one in self.scores], "stored_bytes": self.stored_bytes}

    def load_state_dict(self, state_dict: dict[str, Any], /) -> None:
        self.scores = [ExamScores(*one) for one in state_dict["scores"]]
        self.stored_bytes = state_dict["stored_bytes"]


def _alone(config: ArtifactConfig, ensemble: Ensemble, names: Sequence[str]) -> tuple[Detector, dict[str, Any], list[int]]:
    """The detector of these members, unfitted, its settings of fit, and which of the ensemble's features are its own."""
    assert config.backbone is not None
    members = {member.detector: member for member in EnsembleConfig.model_validate(config.hyperparameters).members}
    every = range(len(ensemble.levels))
    own = {member.config.detector: every[levels] for member, levels in ensemble.parts()}
    levels = [number for name in names for number in own[name]]
    if len(names) > 1:
        hyperparameters = {"members": [members[name].model_dump(mode="json") for name in names]}
        return registry.build(config.model_copy(update={"hyperparameters": hyperparameters})), {}, levels
    one = members[names[0]]
    backbone = config.backbone.model_copy(update={"taps": one.taps})
    update = {"detector": one.detector, "hyperparameters": one.hyperparameters, "backbone": backbone}
    return registry.build(config.model_copy(update=update)), one.training, levels
