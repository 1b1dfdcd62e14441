"""The named cases of `flowscore bench`: a detector on a backbone at an input size."""

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from jobs.command.errors import UsageError
from jobs.command.model_folder import model_folder
from models import artifact, registry
from models.backbones.config import STORED, BackboneConfig, check_known
from models.config import LARGEST_SIDE_PX, LEAST_SIDE_PX, ArtifactConfig, InputConfig

FILE = Path(__file__).parents[1] / "configs" / "bench_cases.yaml"
DEFAULT = "csflow-mobilenetv1-256"


class Case(BaseModel):
    """A case. about: one line for --list.  backbone: timm's name, with random weights; None if the detector has none.
    size_px: side of the input."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    about: str
    detector: str
    backbone: str | None = None
    taps: tuple[str | int, ...] = ()
    size_px: int = Field(ge=LEAST_SIDE_PX, le=LARGEST_SIDE_PX)
    precision: Literal["float32", "bf16", "fp16"] = "bf16"
    hyperparameters: dict[str, Any] = {}

    @field_validator("detector")
    @classmethod
    def _a_detector(cls, name: str) -> str:
        registry.check(name)
        return name

    @field_validator("backbone")
    @classmethod
    def _a_backbone(cls, name: str | None, info: ValidationInfo) -> str | None:
        if name is not None and info.context != STORED:
            check_known(name)
        return name

    def config(self, name: str) -> ArtifactConfig:
        """The config of the untrained model that is measured."""
        return ArtifactConfig(
            name=name,
            detector=self.detector,
            precision=self.precision,
            input=InputConfig(height=self.size_px, width=self.size_px),
            backbone=BackboneConfig(name=self.backbone, taps=self.taps, weights="none") if self.backbone else None,
            hyperparameters=self.hyperparameters,
        )


def cases(further: dict[str, Case]) -> dict[str, Case]:
    """The cases of the file and the further ones; a further one replaces a case with its name."""
    known = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    # Whether timm has the backbones of our own file is for a test: asking takes seconds.
    return {name: Case.model_validate(case, context=STORED) for name, case in known.items()} | further


def chosen(names: list[str], known: dict[str, Case], precision: str | None, image_size: int | None) -> dict[str, Case]:
    """The named cases in their order; without names, the default one in float32. Only that may have another `image_size`, px.

    Raises UsageError for a name that no case has, and for a precision or size that cannot work.
    """
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            fix = f"Did you mean {near[0]!r}?" if near else "`flowscore bench --list` describes each."
            raise UsageError("--case", f"one of {', '.join(known)}", name, fix)
    if names and image_size:
        raise UsageError("--image-size", "left out with --case", image_size, "A case has its own size; see --list.")
    if precision not in (None, "float32", "bf16", "fp16"):
        raise UsageError("--precision", "float32, bf16 or fp16", precision, "Choose one of them.")
    if image_size is not None and not LEAST_SIDE_PX <= image_size <= LARGEST_SIDE_PX:
        rule = f"{LEAST_SIDE_PX} to {LARGEST_SIDE_PX} pixels"
        raise UsageError("--image-size", rule, image_size, "Choose the size that images are scored at.")
    found = {name: known[name] for name in names}
    if not names:
        one = known[DEFAULT]
        size_px = image_size or one.size_px
        name = DEFAULT.replace(str(one.size_px), str(size_px))
        found[name] = one.model_copy(update={"size_px": size_px, "precision": "float32"})
    return {name: one.model_copy(update={"precision": precision or one.precision}) for name, one in found.items()}


@dataclass(frozen=True)
class Subject:
    """A model to measure, and its name. make: returns its directory or URI; it makes an untrained model first."""

    name: str
    config: ArtifactConfig
    make: Callable[[], str]


def of_case(name: str, case: Case, folder: Path) -> Subject:
    """An untrained model, which is made in the folder once."""
    from jobs.benchmark.inputs import untrained  # with torch, which takes seconds to load

    config = case.config(name)
    return Subject(name, config, cache(lambda: str(untrained(folder / name, config))))


def of_model(uri: str, cache_dir: Path) -> Subject:
    """A trained model, under its own name."""
    config = artifact.read(model_folder(uri, cache_dir)).config
    return Subject(config.name, config, lambda: uri)
