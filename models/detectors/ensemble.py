"""Several detectors on one pass of the backbone: the mean of their scores and maps, each on the scale of good images.

A score or a map's value s becomes z = (log s - a) / b, a and b the mean and the standard deviation of log s over held-out
good images; what is a logarithm already, or may be negative, is taken as it is. Ranks would saturate above the good images,
where the members differ most.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from torch import Tensor, nn

from models import registry
from models.backbones.reductions import layer_names
from models.backbones.structure import Structure
from models.config import ArtifactConfig
from models.detector import Detector, Features, FitRun, Scored, Step, Work
from models.features.extractor import FeatureExtractor
from models.features.levels import Levels
from models.maps.grids import Maps
from models.roi.cells import Cells, pixels_inside

NAME = "ensemble"
MEASURED_IMAGES = 256  # the scales come from at most so many images
MEASURED_BATCH = 16
LEAST_VALUE = 1e-12  # before a logarithm
LEAST_STD = 1e-6


class MemberConfig(BaseModel):
    """One detector of an ensemble.

    taps, structure: as in the backbone's config; taps are chosen as for the detector alone if none are named. training: the
    detector's own settings of fit.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    detector: str
    hyperparameters: dict[str, Any] = {}
    training: dict[str, Any] = {}
    taps: tuple[str | int, ...] = ()
    structure: Structure | None = None

    @model_validator(mode="after")
    def _known(self) -> Self:
        registry.check(self.detector)
        if self.detector == NAME:
            raise ValueError("members must be other detectors; got an ensemble. Name its members here.")
        return self


class EnsembleConfig(BaseModel):
    """Hyper-parameters. members: at least two; their order decides no score but its last bits."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    members: tuple[MemberConfig, ...] = Field((MemberConfig(detector="csflow"), MemberConfig(detector="padim")), min_length=2)


class EnsembleTraining(BaseModel):
    """Nothing to set: every member has its own settings, in `hyperparameters`."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def build(config: ArtifactConfig) -> "Ensemble":
    """Untrained members; its config has every default filled in.

    >>> from models.config import BackboneConfig, InputConfig
    >>> network, size = BackboneConfig(name="test_resnet", weights="none"), InputConfig(height=64, width=64)
    >>> members = [{"detector": "padim", "hyperparameters": {"dims": 8}}, {"detector": "fastflow"}]
    >>> config = ArtifactConfig(name="tile", input=size, backbone=network, hyperparameters={"members": members})
    >>> build(config).config.map_height
    16
    """
    return Ensemble(config)


class Ensemble(Detector):
    Training = EnsembleTraining
    members: Sequence[Detector]
    score_mean: Tensor
    score_std: Tensor
    map_mean: Tensor
    map_std: Tensor

    def __init__(self, config: ArtifactConfig):
        super().__init__()
        hyper = EnsembleConfig.model_validate(config.hyperparameters)
        members = _built(config, hyper.members)
        self.backbone = _shared(config, [extractor for _, extractor in members])
        modules: Any = nn.ModuleList(member for member, _ in members)
        self.members = modules
        self.training_of = [_training(hyper.members, number, member) for number, member in enumerate(self.members)]
        filled = [
            MemberConfig(
                detector=member.config.detector,
                hyperparameters=member.config.hyperparameters,
                training=training.model_dump(mode="json"),
                taps=extractor.config.taps,
                structure=extractor.config.structure,
            )
            for (member, extractor), training in zip(members, self.training_of, strict=True)
        ]
        grid = max((member.map_cells.grid for member in self.members), key=lambda cells: cells[0] * cells[1])
        self.config = config.filled_in(EnsembleConfig(members=tuple(filled)), self.backbone.config, grid)
        seen = pixels_inside(config.input)
        of_members = [cells for member in self.members for cells in member.levels]
        self.see([Cells(None if cells.mask is None else seen, cells.grid) for cells in of_members], grid)
        for member in self.members:
            member.fill = None  # `features` has done it: the members get one tensor of images, and so one pass
        for name in ("score", "map"):
            self.register_buffer(f"{name}_mean", torch.zeros(len(filled)))
            self.register_buffer(f"{name}_std", torch.ones(len(filled)))

    def _normalised(self, images: Tensor) -> Tensor:
        return self.backbone.prepare(images)

    def features(self, inputs: Tensor) -> Maps:
        """The features of every member, one after the other."""
        seen = self.seen(inputs)
        with self.backbone.passing_once():
            return [x for member in self.members for x in member.features(seen)]

    def parts(self) -> Iterator[tuple[Detector, slice]]:
        """Every member and its levels of `features`."""
        start = 0
        for member in self.members:
            yield member, slice(start, start + len(member.levels))
            start += len(member.levels)

    def _fit(self, features: Features, positions: Tensor, run: FitRun) -> None:
        """One member after the other, each with its own settings; then the scales of scores and maps."""
        for number, ((member, levels), training) in enumerate(zip(self.parts(), self.training_of, strict=True)):
            kept = None if run.checkpoint is None else run.checkpoint.part(f"member-{number}")
            told = replace(run, training=training, on_step=partial(_tell, run, member), after_epoch=None, checkpoint=kept)
            member.fit(Levels(features, levels), positions, told)
        self._measure(features, run.batches("measuring scores and maps", _some(positions), MEASURED_BATCH))

    def fit_constants(self, features: Features, held_out: Tensor) -> dict[str, Tensor]:
        """The members' own, and the scales of scores and maps: of held-out images, since a flow gives those that it was fitted
        to lower scores."""
        found = {
            f"members.{number}.{name}": value
            for number, (member, levels) in enumerate(self.parts())
            for name, value in member.fit_constants(Levels(features, levels), held_out).items()
        }
        self._measure(features, _some(held_out).split(MEASURED_BATCH))
        own = {name: getattr(self, name).clone() for name in ("score_mean", "score_std", "map_mean", "map_std")}
        return found | own

    @torch.no_grad()
    def _measure(self, features: Features, batches: Iterator[Tensor] | Sequence[Tensor]) -> None:
        device, count = self.score_mean.device, len(self.members)
        scores: list[list[Tensor]] = [[] for _ in range(count)]
        cells: list[list[Tensor]] = [[] for _ in range(count)]
        for batch in batches:
            for number, scored in enumerate(self.of_members([x.to(device) for x in features.read(batch)])):
                scores[number].append(scored.score.double())
                cells[number].append(self.own.only(scored.anomaly_map).double().flatten())
        for name, of_members in (("score", scores), ("map", cells)):
            for number, parts in enumerate(of_members):
                values = torch.cat(parts)
                self.get_buffer(f"{name}_mean")[number] = values.mean()
                self.get_buffer(f"{name}_std")[number] = values.std(correction=0).clamp_min(LEAST_STD)

    def of_members(self, maps: Maps) -> list[Scored]:
        """Every member's result, with its map on the common grid; scores and maps are logarithms where they are positive."""
        found = []
        for member, levels in self.parts():
            score, cells, embedding = member.score_features(maps[levels])
            cells = member.own.resized(cells, self.own.grid)
            score = score.clamp_min(LEAST_VALUE).log() if member.positive.score else score
            cells = cells.clamp_min(LEAST_VALUE).log() if member.positive.map else cells
            found.append(Scored(score, cells, embedding))
        return found

    def score_features(self, maps: Maps) -> Scored:
        """The embedding is the first member's."""
        scores, cells, embeddings = zip(*self.of_members(maps), strict=True)
        mean, std = self.map_mean[:, None, None], self.map_std[:, None, None]
        score = ((torch.stack(scores, 1) - self.score_mean) / self.score_std).mean(1)  # of (B, members)
        anomaly_map = ((torch.stack(cells, 1) - mean) / std).mean(1)  # of (B, members, h, w)
        return Scored(score, anomaly_map, embeddings[0])

    def fit_bytes(self) -> int:
        return max(member.fit_bytes() for member in self.members)

    def fit_file_bytes(self, images: int) -> int:
        return max(member.fit_file_bytes(images) for member in self.members)

    def freeze(self) -> Self:
        super().freeze()
        for member in self.members:
            member.freeze()
        return self


def _built(config: ArtifactConfig, members: Sequence[MemberConfig]) -> list[tuple[Detector, FeatureExtractor]]:
    """The members with their own networks. Where some name layers and others count them, all name them."""
    if config.backbone is None:
        raise ValueError("backbone must be given for an ensemble; got none. Name a timm model.")
    if config.backbone.taps and not all(member.taps for member in members):
        raise ValueError(
            f"taps must be left out for an ensemble; got {config.backbone.taps!r}. Name them in hyperparameters, by member."
        )
    built = [_member(config, members, number) for number in range(len(members))]
    kinds = {isinstance(tap, str) for _, extractor in built for tap in extractor.names}
    if len(kinds) > 1:
        for number, (_, extractor) in enumerate(built):
            taps = extractor.config.taps
            if not isinstance(taps[0], str):
                update = {"taps": layer_names(extractor.config, taps), "structure": None}
                named = [each.model_copy(update=update) for each in members]
                built[number] = _member(config, named, number)
    return built


def _training(members: Sequence[MemberConfig], number: int, built: Detector) -> BaseModel:
    """A member's settings of fit, every default filled in."""
    try:
        return built.Training.model_validate(members[number].training)
    except ValidationError as error:
        raise _wrong(members, number, "training", error) from None


def _wrong(members: Sequence[MemberConfig], number: int, section: str, error: ValidationError) -> ValueError:
    """The first fault of a member's settings, by the place where they are given."""
    fault = error.errors()[0]
    field = ".".join(["members", str(number), section, *map(str, fault["loc"])])
    unknown = fault["type"] == "extra_forbidden"
    rule = f"a setting of {members[number].detector}" if unknown else fault["msg"].removeprefix("Input should be ")
    fix = "Remove it." if unknown else "Change it in the file of --config."
    return ValueError(f"{field} must be {rule}; got {fault['input']!r}. {fix}")


def _member(config: ArtifactConfig, members: Sequence[MemberConfig], number: int) -> tuple[Detector, FeatureExtractor]:
    assert config.backbone is not None
    member = members[number]
    structure = None if config.backbone.structure is None else member.structure  # another timm has to find it again
    update = {
        "detector": member.detector,
        "hyperparameters": member.hyperparameters,
        "backbone": config.backbone.model_copy(update={"taps": member.taps, "structure": structure}),
        "map_height": None,
        "map_width": None,
        "map_threshold": None,
        "trained": {},
    }
    try:
        built = registry.build(config.model_copy(update=update))
    except ValidationError as error:
        raise _wrong(members, number, "hyperparameters", error) from None
    extractor = getattr(built, "backbone", None)
    if not isinstance(extractor, FeatureExtractor):
        raise ValueError(f"members must be detectors that read a backbone; got {member.detector!r}. Leave it out.")
    return built, extractor


def _shared(config: ArtifactConfig, extractors: Sequence[FeatureExtractor]) -> FeatureExtractor:
    """One network that gives all layers that the members read; their own are dropped."""
    assert config.backbone is not None
    taps = tuple(dict.fromkeys(tap for extractor in extractors for tap in extractor.names))
    backbone = config.backbone.model_copy(update={"taps": taps})
    scales = max(len(extractor.scale_grids) for extractor in extractors)
    shared = FeatureExtractor(config.model_copy(update={"backbone": backbone}), scales=scales)
    for extractor in extractors:
        extractor.read_from(shared)
    return shared


def _some(positions: Tensor) -> Tensor:
    """At most MEASURED_IMAGES of the images, evenly spaced."""
    return positions[:: max(1, -(-len(positions) // MEASURED_IMAGES))]


def _tell(run: FitRun, member: Detector, step: Step) -> None:
    """A member's step as work between the ensemble's, which has none."""
    done, total = step.epoch * step.steps + step.step + 1, step.epochs * step.steps
    run.on_work(Work(f"fitting {member.config.detector}", done, total, "steps"))
