"""Encoded images to uint8 pixels of the model's input size. Training and scoring both decode here."""

import warnings
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Annotated, Any, Literal, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import pyarrow as pa
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, field_validator

from pipeline.exif import SIDEWAYS, TURNS, captured_at, orientation
from pipeline.image_file import FULL_16_BIT, Undecodable, load_8bit, open_image
from schemas.commit import DECODED
from schemas.encoded import FAILURE, IDENTITY

SCHEMA = pa.schema([*IDENTITY, *DECODED, *FAILURE])
FILTER = Image.Resampling.BILINEAR  # a triangle as wide as the reduction: antialiased, fixed-point, the same everywhere
DCT_MARGIN = 3  # a JPEG is reduced while decoding to no less than 3 times the input: 0.4 levels of difference on average


class DecodeConfig(BaseModel):
    """resize: `squash` fits both sides; `pad` keeps the aspect and repeats the edge pixels.
    white_level: value of a 16-bit grey sample that becomes 255 (4095 for a 12-bit camera).
    timezone: of EXIF times without an offset.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    height: Annotated[int, Field(ge=1, le=8192)]
    width: Annotated[int, Field(ge=1, le=8192)]
    resize: Literal["squash", "pad"] = "squash"
    max_image_pixels: Annotated[int, Field(ge=1)] = 1 << 27
    white_level: Annotated[int, Field(ge=255, le=FULL_16_BIT)] = FULL_16_BIT
    timezone: str = "UTC"

    @field_validator("timezone")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ValueError(f"timezone must be a name such as Europe/Berlin; got {name!r}. Correct it.") from error
        return name


class Decoded(NamedTuple):
    """pixels: (N, H, W, 3) uint8 RGB, 0 where the row has an error.  table: N rows of `SCHEMA`, in unit order."""

    pixels: np.ndarray
    table: pa.Table


class Picture(NamedTuple):
    """pixels: (H, W, 3) uint8 RGB.  width, height: of the stored image after EXIF orientation, px."""

    pixels: np.ndarray
    width: int
    height: int
    captured_at: datetime | None
    brightness: float
    contrast: float
    sharpness: float


def decode_unit(table: pa.Table, config: DecodeConfig) -> Decoded:
    """Decode every row of schemas/encoded.py that holds an image; a bad image becomes a row with `stage=decode`."""
    pixels = np.zeros((table.num_rows, config.height, config.width, 3), np.uint8)
    encoded = (cell.as_py() for cell in table["encoded"])
    return Decoded(pixels, decoded_table(table, list(decode_rows(encoded, pixels, config))))


def decode_rows(
    encoded: Iterable[bytes | None],
    pixels: np.ndarray,
    config: DecodeConfig,
    decode: Callable[[bytes, DecodeConfig], Picture] | None = None,
) -> Iterator[dict[str, Any]]:
    """Decode images one by one into `pixels` (N, H, W, 3); gives the columns of each, or its fault, or {} for None."""
    for index, content in enumerate(encoded):
        if content is None:
            yield {}
            continue
        try:
            picture = (decode or decode_image)(content, config)
        except Undecodable as fault:
            yield {"stage": "decode", "error": fault.error, "message": str(fault)}
            continue
        pixels[index] = picture.pixels
        yield {field.name: getattr(picture, field.name) for field in DECODED}


def decoded_table(table: pa.Table, rows: list[dict[str, Any]]) -> pa.Table:
    """`SCHEMA` rows: those of the encoded table with what `decode_rows` says; faults of reading stay."""
    columns = []
    for column in SCHEMA:
        cells = [row.get(column.name) for row in rows]
        if column.name in table.column_names:
            earlier = table[column.name]
            cells = [new if new is not None else old.as_py() for new, old in zip(cells, earlier, strict=True)]
        columns.append(pa.array(cells, column.type))
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def decode_image(encoded: bytes, config: DecodeConfig) -> Picture:
    """One image turned upright, reduced to 8-bit RGB and resized. Raises Undecodable."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of what becomes a fault or does not matter
        return _decode_image(encoded, config)


def _decode_image(encoded: bytes, config: DecodeConfig) -> Picture:
    image = open_image(encoded, config.max_image_pixels, config.white_level)
    turn = orientation(image)
    stored = image.size[::-1] if turn in SIDEWAYS else image.size
    taken = captured_at(image, config.timezone)
    width, height = content_size(stored, config)
    target = (height, width) if turn in SIDEWAYS else (width, height)
    picture = load_8bit(image, encoded, (target[0] * DCT_MARGIN, target[1] * DCT_MARGIN), config.white_level)
    picture = picture.resize(target, FILTER)
    if turn in TURNS:
        picture = picture.transpose(TURNS[turn])
    levels = _pad(np.asarray(picture), config)
    grey = levels if levels.ndim == 2 else np.asarray(Image.fromarray(levels).convert("L"))
    pixels = levels if levels.ndim == 3 else np.broadcast_to(levels[:, :, None], (*levels.shape, 3))  # (H, W, 3)
    return Picture(pixels, *stored, taken, *grey_statistics(grey))


def content_size(stored: tuple[int, int], config: DecodeConfig) -> tuple[int, int]:
    """(width, height) that an image of `stored` (width, height) takes within the input: all of it unless padded."""
    if config.resize == "squash":
        return config.width, config.height
    scale = min(config.width / stored[0], config.height / stored[1])
    width, height = (max(1, round(side * scale)) for side in stored)
    return min(width, config.width), min(height, config.height)


def grey_statistics(grey: np.ndarray) -> tuple[float, float, float]:
    """Brightness, contrast and sharpness (schemas/commit.py) of (H, W) uint8.

    All sums are of integers below 2^53, exact in float64 in any order, so they are the same on every machine.
    """
    levels = grey.astype(np.int16)
    edges = levels[:-2, 1:-1] + levels[2:, 1:-1] + levels[1:-1, :-2] + levels[1:-1, 2:] - 4 * levels[1:-1, 1:-1]
    brightness, contrast = _mean_variance(levels)
    return brightness, contrast**0.5, _mean_variance(edges)[1] if edges.size else 0.0


def _mean_variance(levels: np.ndarray) -> tuple[float, float]:
    numbers = levels.ravel().astype(np.float64)
    total, squares = int(numbers.sum()), int(np.vdot(numbers, numbers))
    return total / numbers.size, (squares * numbers.size - total * total) / numbers.size**2


def _pad(levels: np.ndarray, config: DecodeConfig) -> np.ndarray:
    """(h, w[, 3]) centred in (H, W[, 3]), the edge pixels repeated outwards."""
    rows, columns = config.height - levels.shape[0], config.width - levels.shape[1]
    if not rows and not columns:
        return levels
    around = [(rows // 2, rows - rows // 2), (columns // 2, columns - columns // 2)]
    return np.pad(levels, around + [(0, 0)] * (levels.ndim - 2), mode="edge")
