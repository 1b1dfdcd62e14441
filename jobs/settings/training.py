"""The settings of `flowscore train`."""

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from jobs.command.flags import Flag, Named
from models import choosing, registry
from models.config import FULL_16_BIT, LARGEST_SIDE_PX, LEAST_SIDE_PX
from pipeline.input.config import SourceConfig, SourceOptions
from pipeline.scoring.device import DeviceSetting

AUTO = "auto"


class TrainSettings(BaseModel):
    """Settings of `flowscore train`: its flags, and those that only a --config file sets (training, hyperparameters, ...)."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    BELOW_HELP: ClassVar[str] = choosing.table()

    input: Flag[str] = Field(description="good images: a folder or s3://bucket/prefix")
    model_out: Flag[str] = Field(description="where the model goes: a folder or s3://bucket/prefix")
    overwrite: Flag[bool] = Field(False, description="replace the model that is at --model-out")
    detector: Flag[str] = Field(
        "csflow",
        description="a file of models/detectors, which the list below describes; or auto: several are tried on these images "
        "with drawn defects, and the best is trained, or the best together",
    )
    name: Flag[str | None] = Field(
        None,
        pattern=r"^[A-Za-z0-9._-]+$",
        description="stable name of the model, the same for every retraining; default: detector and backbone",
    )
    backbone: Flag[str] = Field("mobilenetv1_100", description="a timm model")
    taps: tuple[str | int, ...] = Field(
        (), description="layers of the backbone to read; default: the deepest of reduction <= 16"
    )
    backbone_kwargs: dict[str, Any] = Field({}, description="arguments of the timm model")
    weights: Flag[str] = Field("auto", description="auto, hub, none or a safetensors file")
    image_size: Flag[tuple[int, int]] = Field((256, 256), description="N or HEIGHTxWIDTH, pixels; of a tile with --aspect tile")
    aspect: Flag[Literal["squash", "keep", "tile"]] = Field(
        "squash", description="how images get that size: squash, keep (padded) or tile (cut, at full resolution)"
    )
    roi: Flag[Path | None] = Field(
        None,
        description="mask image of what counts in every image: its pixels that are not 0; one for the model, so a view with "
        "another mask has a model of its own; default: all of the image",
    )
    shading_correction: Flag[bool] = Field(
        False,
        description="divide every image by the plane that fits its brightness, in training and scoring: light that rises "
        "evenly over the picture then changes little; for surfaces that fill it",
    )
    overlap: float = Field(0.25, ge=0, le=0.5, description="least share of a tile that its neighbour also covers")
    scale: float = Field(1.0, gt=0, le=4, description="magnification of an image before it is cut into tiles")
    tiles_per_image: int = Field(16, ge=1, description="most tiles of an image that are trained on")
    epochs: Annotated[int | None, Named(also=("training", "epochs"))] = Field(
        None, ge=1, description="most epochs; also `epochs` of `training`"
    )
    white_level: Flag[int] = Field(
        FULL_16_BIT,
        ge=255,
        le=FULL_16_BIT,
        description="sample that is white in a 16-bit grey image: 4095 for a 12-bit camera; kept in the model",
    )
    seed: Flag[int] = Field(0, ge=0, lt=1 << 63, description="same seed, same machine: same model")
    device: Flag[DeviceSetting] = Field("auto", description="where the model is trained")
    precision: Literal["auto", "float32", "bf16", "fp16"] = Field(
        "auto", description="type of convolutions; auto: fp16 on a GPU, bf16 on a CPU that multiplies it, else float32"
    )
    batch_size: int | None = Field(
        None, ge=1, description="images per batch when scoring, kept in the model; default: by device and image size"
    )
    key_pattern: Flag[str | None] = Field(None, description="key columns of the path, {line}/{date}/{lot}/{name}")
    members: Flag[str | None] = Field(None, description=str(SourceOptions.model_fields["members"].description))
    follow_links: Flag[bool] = Field(False, description=str(SourceOptions.model_fields["follow_links"].description))
    group_key: Flag[str | None] = Field(None, description="key column whose images stay on one side; default: the lot")
    calibration_share: Flag[float] = Field(0.2, ge=0, lt=0.9, description="share of good images kept for calibrate, by group")
    selection_share: Flag[float] = Field(0.1, ge=0, lt=0.9, description="share that shows when to stop; 0: fixed epochs")
    light: Flag[float] = Field(
        0.0,
        ge=0,
        lt=1,
        description="train also on copies of the images in other light (gain, gradient, offset), 0.4: by up to 40 %",
    )
    light_copies: int = Field(1, ge=1, le=16, description="copies of every image for --light")
    criterion_light: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="also the criterion with held-out good images under gradients of light of this strength",
    )
    patience: int = Field(4, ge=1, description="clearly worse epochs in a row that stop the training")
    region_share: float = Field(
        0.05,
        gt=0,
        lt=1,
        description="share of new good pieces that may have a region; sets the map's threshold",
    )
    exclude: Flag[Path | None] = Field(None, description="file of keys to leave out, one a line")
    max_unreadable_share: float = Field(0.05, ge=0, le=1, description="share of images that may be unreadable")
    workspace: Flag[Path | None] = Field(
        None,
        description="folder that keeps features and, after every epoch, the state: the same command goes on where it was "
        "interrupted; default: nothing is kept",
    )
    training: dict[str, Any] = Field({}, description="settings of the detector's own fit")
    hyperparameters: dict[str, Any] = Field({}, description="settings of the detector itself")

    @field_validator("detector")
    @classmethod
    def _there(cls, name: str) -> str:
        if name != AUTO:
            registry.check(name)
        return name

    @field_validator("image_size", mode="before")
    @classmethod
    def _height_by_width(cls, value: Any) -> Any:
        parts = value.lower().split("x") if isinstance(value, str) else value if isinstance(value, list | tuple) else [value]
        sides = [int(part) for part in map(str, parts) if part.isdecimal() and len(part) < 10]
        if (
            len(sides) not in (1, 2)
            or len(sides) < len(parts)
            or not LEAST_SIDE_PX <= min(sides) <= max(sides) <= LARGEST_SIDE_PX
        ):
            raise ValueError(
                f"image_size must be N or HEIGHTxWIDTH, {LEAST_SIDE_PX} to {LARGEST_SIDE_PX} pixels each; got {value!r}. "
                "Write for example 256 or 192x320."
            )
        return (sides[0], sides[-1])

    @model_validator(mode="after")
    def _some_are_left_to_fit(self) -> Self:
        kept = self.calibration_share + self.selection_share
        if kept >= 1:
            rule = "less than 1 together with selection_share, so that images are left to fit"
            raise ValueError(f"calibration_share must be {rule}; got {kept:g}. Lower one of them.")
        return self

    @model_validator(mode="after")
    def _a_criterion_has_a_selection(self) -> Self:
        if self.criterion_light and not self.selection_share:
            rule = "0 without a selection, whose held-out images it takes"
            raise ValueError(f"criterion_light must be {rule}; got {self.criterion_light:g}. Give --selection-share.")
        return self

    @model_validator(mode="after")
    def _several_have_held_out_images(self) -> Self:
        does = {AUTO: "chooses by held-out images", "ensemble": "weighs its members by held-out images"}.get(self.detector)
        if does and not self.selection_share:
            fix = "Leave it out, or name one detector."
            raise ValueError(f"selection_share must be over 0 with --detector {self.detector}, which {does}; got 0. {fix}")
        return self

    @model_validator(mode="after")
    def _auto_has_no_settings_of_one(self) -> Self:
        if self.detector != AUTO:
            return self
        own = {"epochs": self.epochs, "training": self.training, "taps": self.taps}
        given = [name for name, value in own.items() if value]
        if given:
            fix = "Give each candidate its own in the hyperparameters: members."
            raise ValueError(f"{given[0]} must be left out with --detector auto; got {own[given[0]]!r}. {fix}")
        return self

    @model_validator(mode="after")
    def _whole_images_have_a_region(self) -> Self:
        if self.roi is not None and self.aspect == "tile":
            raise ValueError(
                "roi must be left out with --aspect tile, whose tiles show no fixed part of a piece; "
                f"got {str(self.roi)!r}. Choose --aspect squash or keep."
            )
        return self

    @model_validator(mode="after")
    def _pictures_fill_what_is_corrected(self) -> Self:
        if self.shading_correction and self.aspect != "squash":
            rule = "left out with --aspect keep or tile: padding is no picture, and a tile is no whole one"
            raise ValueError(f"shading_correction must be {rule}; got {self.aspect!r}. Choose --aspect squash.")
        return self

    @model_validator(mode="after")
    def _source_can_be_read(self) -> Self:
        try:
            self.source_of_input()
        except ValidationError as error:
            raise ValueError(str(error.errors()[0]["ctx"]["error"])) from None
        return self

    def source_of_input(self) -> SourceConfig:
        """The input with the options that it is read with."""
        shared = {name: getattr(self, name) for name in SourceOptions.model_fields if name in type(self).model_fields}
        return SourceConfig(input_uri=self.input, **shared)

    def fit_settings(self) -> dict[str, Any]:
        """`training` with the flag's epochs."""
        return self.training if self.epochs is None else {**self.training, "epochs": self.epochs}
