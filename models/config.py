"""What an artifact's config.json holds."""

from typing import Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    model_serializer,
    model_validator,
)

from models.backbones.config import STORED, BackboneConfig
from models.roi.region import RegionOfInterest

FULL_16_BIT = 65535
LEAST_SIDE_PX, LARGEST_SIDE_PX = 16, 8192

BEFORE: dict[str, dict[str, Any]] = {
    "csflow": {"map": "energy", "head": None},
    "fastflow": {"head": None},
    "differnet": {"head": None},
}
"""By detector, hyper-parameters that came after artifacts had been stored without them, with what those artifacts did. A
stored config holds every other one, so that a new default changes no stored model."""


LATER = {"roi": None, "shading_correction": False}


def without_later(written: dict[str, Any]) -> dict[str, Any]:
    """A written config, without what came later where it does nothing: as it was before, for older versions and digests.

    >>> without_later({"height": 64, "roi": None, "shading_correction": False})
    {'height': 64}
    """
    return {name: value for name, value in written.items() if name not in LATER or value != LATER[name]}


class InputConfig(BaseModel):
    """The size of what the detector sees, in pixels, and how images are brought to it.

    resize: squash fits both sides; pad keeps the aspect ratio; tile keeps the resolution and cuts the image into tiles of
    this size (models/maps/tiling.py). Only tile uses overlap, the least share of a tile that its neighbour sees too, and
    scale, the magnification before the cut, which is the same in training and scoring. white_level: the value of white in
    a 16-bit grey image, 4095 for a camera of 12 bits in the low bits. roi: the part of the images that counts; None: all of
    them. shading_correction: every image is brought to even light first (models/features/shading.py); only with squash, whose
    images are all picture. The stored config names neither where it does nothing.

    >>> InputConfig(height=512, width=768, resize="pad").model_dump()["white_level"]
    65535
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    height: int = Field(default=256, ge=LEAST_SIDE_PX, le=LARGEST_SIDE_PX)
    width: int = Field(default=256, ge=LEAST_SIDE_PX, le=LARGEST_SIDE_PX)
    resize: Literal["squash", "pad", "tile"] = "squash"
    overlap: float = Field(default=0.25, ge=0, le=0.5)
    scale: float = Field(default=1.0, gt=0, le=4)
    white_level: int = Field(default=FULL_16_BIT, ge=255, le=FULL_16_BIT)
    roi: RegionOfInterest | None = None
    shading_correction: bool = False

    @model_validator(mode="after")
    def _whole_images(self) -> Self:
        if self.roi is not None and self.resize == "tile":
            raise ValueError("roi must be left out for a model that scores by tiles. Remove it, or choose another resize.")
        if self.shading_correction and self.resize != "squash":
            rule = "left out unless resize is squash: padding is no picture, and a tile is no whole one"
            raise ValueError(f"shading_correction must be {rule}; got resize {self.resize!r}. Remove it, or choose squash.")
        return self

    @model_serializer(mode="wrap")
    def _without_what_is_not_there(self, written: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without_later(written(self))


class ArtifactConfig(BaseModel):
    """Everything that decides a score together with the weights.

    name: the stable name of the model, the same for every retraining. batch_size: images per fixed batch when scoring.
    map_height, map_width: cells of the anomaly map; None takes the detector's own grid. map_threshold: the map value above
    which a cell belongs to a region; None computes no regions. backbone: None for a detector that trains its own encoder.
    precision: bf16 leaves depthwise and fine convolutions of the backbone in float32 (models/backbones/exact_layers.py); fp16
    is meant for GPUs (models/backbones/half.py), a CPU emulates it; an image so strange that a value inside the backbone
    exceeds 65,504 gets an error row, where float32 would give it a high score. trained: a record of the training.

    >>> ArtifactConfig(name="tile", detector="padim", hyperparameters={"dims": 100}).batch_size
    16
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9._-]+$")
    detector: str = "csflow"
    input: InputConfig = InputConfig()
    backbone: BackboneConfig | None = BackboneConfig()
    precision: Literal["float32", "bf16", "fp16"] = "float32"
    batch_size: int = Field(16, ge=1)
    map_height: int | None = Field(None, ge=1)
    map_width: int | None = Field(None, ge=1)
    map_threshold: float | None = Field(None, allow_inf_nan=False)
    hyperparameters: dict[str, Any] = {}
    trained: dict[str, Any] = {}

    @model_validator(mode="after")
    def _of_an_earlier_time(self, info: ValidationInfo) -> Self:
        """What a stored artifact does not say is what it did then, whatever the default is today."""
        if info.context == STORED:
            self.hyperparameters.update(
                {key: value for key, value in BEFORE.get(self.detector, {}).items() if key not in self.hyperparameters}
            )
        return self

    def filled_in(self, hyperparameters: BaseModel, backbone: BackboneConfig | None, grid: tuple[int, int]) -> Self:
        """This config with a detector's defaults filled in, as an artifact keeps it.

        Args:
            hyperparameters: the detector's own, resolved.
            backbone: resolved; None for a detector without one.
            grid: rows and columns of the detector's own map, used when no map size is set.
        """
        update = {
            "backbone": backbone,
            "hyperparameters": hyperparameters.model_dump(mode="json"),
            "map_height": self.map_height or grid[0],
            "map_width": self.map_width or grid[1],
        }
        return self.model_copy(update=update)
