"""How images are decoded: the settings that the pixels depend on."""

from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from models.config import FULL_16_BIT, LARGEST_SIDE_PX, InputConfig, without_later
from models.roi.region import RegionOfInterest


def known_zone(name: str) -> str:
    """The name of a time zone, unchanged; raises ValueError for any other text."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:  # OSError: the name of a folder, or an endless one
        raise ValueError(f"timezone must be a name such as Europe/Berlin; got {name[:100]!r}. Correct it.") from error
    return name


class DecodeConfig(BaseModel):
    """resize: `squash` fits both sides; `pad` keeps the aspect and repeats the edge pixels; `tile` only magnifies by `scale`.
    white_level: value of a 16-bit grey sample that becomes 255 (4095 for a 12-bit camera); a file that names fewer bits is
        scaled by them.
    timezone: the zone of EXIF times without an offset.
    max_decode_bytes: memory of the decoder's process (pipeline/decode/child.py), which itself needs 0.1 GB; RGBA and
        16-bit grey take up to 25 bytes a pixel. No limit where images are decoded in the caller's process.
    decoder: `cuda` decodes JPEGs on the GPU that scores (pipeline/scoring/device_decoder.py), which gives other pixels, and
        other images as ever. Not for `tile`, nor with a region of interest.
    roi: what lies outside is drawn over and not measured; pictures of another aspect ratio are not decoded.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    height: Annotated[int, Field(ge=1, le=LARGEST_SIDE_PX)]
    width: Annotated[int, Field(ge=1, le=LARGEST_SIDE_PX)]
    resize: Literal["squash", "pad", "tile"] = "squash"
    scale: Annotated[float, Field(gt=0, le=4)] = 1.0
    max_image_pixels: Annotated[int, Field(ge=1, lt=1 << 31)] = 1 << 27
    max_decode_bytes: Annotated[int, Field(ge=256 << 20)] = 4 << 30
    white_level: Annotated[int, Field(ge=255, le=FULL_16_BIT)] = FULL_16_BIT
    timezone: str = "UTC"
    decoder: Literal["cpu", "cuda"] = "cpu"
    roi: RegionOfInterest | None = None

    @classmethod
    def of(cls, input: InputConfig, **more: Any) -> Self:
        """How images are brought to a model's input; `more` are settings of this class and override the model's."""
        shared = {name: getattr(input, name) for name in InputConfig.model_fields if name in cls.model_fields}
        return cls(**{**shared, **more})

    @field_validator("timezone")
    @classmethod
    def _known(cls, name: str) -> str:
        return known_zone(name)

    @model_validator(mode="after")
    def _whole_images(self) -> Self:
        if self.decoder == "cuda" and self.resize == "tile":
            raise ValueError("decoder must be cpu for a model that scores by tiles; got 'cuda'. Leave it out.")
        if self.decoder == "cuda" and self.roi is not None:
            raise ValueError("decoder must be cpu for a model with a region of interest; got 'cuda'. Leave it out.")
        return self

    @model_serializer(mode="wrap")
    def _without_what_is_not_there(self, written: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without_later(written(self))
