"""Encoded images to uint8 pixels of the model's input size, or to be cut into tiles of it. Training and scoring both decode
here."""

import warnings
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Annotated, Any, Literal, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import pyarrow as pa
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, field_validator

from pipeline.decode.exif import SIDEWAYS, TURNS, captured_at, orientation
from pipeline.decode.image_file import FULL_16_BIT, Undecodable, damaged, load_8bit, open_image
from pipeline.decode.resize import resized
from schemas.commit import DECODED
from schemas.encoded import FAILURE, IDENTITY

SCHEMA = pa.schema([*IDENTITY, *DECODED, *FAILURE])
STRIP_PIXELS = 1 << 22  # of a large image that are looked at together
DCT_MARGIN = 3  # a JPEG is reduced while decoding to no less than 3 times the input: 0.4 levels of difference on average


def known_zone(name: str) -> str:
    """The name of a time zone as it is; raises ValueError for any other text."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:  # OSError: the name of a folder, or an endless one
        raise ValueError(f"timezone must be a name such as Europe/Berlin; got {name[:100]!r}. Correct it.") from error
    return name


class DecodeConfig(BaseModel):
    """resize: `squash` fits both sides; `pad` keeps the aspect and repeats the edge pixels; `tile` only magnifies by `scale`.
    white_level: value of a 16-bit grey sample that becomes 255 (4095 for a 12-bit camera).
    timezone: of EXIF times without an offset.
    max_decode_bytes: memory of the decoder's process (pipeline/decode/child.py), of which it needs 0.1 GB itself; RGBA and
        16-bit grey take up to 25 bytes a pixel. No limit where images are decoded in the caller's process.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    height: Annotated[int, Field(ge=1, le=8192)]
    width: Annotated[int, Field(ge=1, le=8192)]
    resize: Literal["squash", "pad", "tile"] = "squash"
    scale: Annotated[float, Field(gt=0, le=4)] = 1.0
    max_image_pixels: Annotated[int, Field(ge=1, lt=1 << 31)] = 1 << 27
    max_decode_bytes: Annotated[int, Field(ge=256 << 20)] = 4 << 30
    white_level: Annotated[int, Field(ge=255, le=FULL_16_BIT)] = FULL_16_BIT
    timezone: str = "UTC"

    @field_validator("timezone")
    @classmethod
    def _known(cls, name: str) -> str:
        return known_zone(name)


class Decoded(NamedTuple):
    """pixels: (N, H, W, 3) uint8 RGB, 0 where the row has an error.  table: N rows of `SCHEMA`, in unit order."""

    pixels: np.ndarray
    table: pa.Table


class Picture(NamedTuple):
    """pixels: (H, W, 3) uint8 RGB, of the input's size, for `tile` of the image's own.
    width, height: of the stored image after EXIF orientation, px.
    """

    pixels: np.ndarray
    width: int
    height: int
    captured_at: datetime | None
    brightness: float
    contrast: float
    sharpness: float


def decode_unit(table: pa.Table, config: DecodeConfig) -> Decoded:
    """Decode every row of schemas/encoded.py that holds an image; a bad image becomes a row with `stage=decode`.

    Not for `tile`, where pixels.shape differs from image to image: see pipeline/decode/tiles.py.
    """
    assert config.resize != "tile"
    pixels = np.zeros((table.num_rows, config.height, config.width, 3), np.uint8)
    encoded = (cell.as_py() for cell in table["encoded"])
    return Decoded(pixels, decoded_table(table, list(decode_rows(encoded, pixels, config))))


def decode_rows(
    encoded: Iterable[bytes | memoryview | None],
    pixels: np.ndarray | list[np.ndarray | None],
    config: DecodeConfig,
    decode: Callable[[bytes, DecodeConfig], Picture] | None = None,
) -> Iterator[dict[str, Any]]:
    """Decode images one by one into `pixels`, (N, H, W, 3) or a list of N that keeps them as they are; gives the columns of
    each, or its fault, or {} for None."""
    for index, content in enumerate(encoded):
        if content is None:
            yield {}
            continue
        try:
            picture = (decode or decode_image)(bytes(content), config)
        except Undecodable as fault:  # not kept: with it, its traceback keeps `pixels`, which may be shared memory
            yield _failed(fault)
            continue
        except MemoryError as error:
            yield _failed(damaged("image", error))
            continue
        pixels[index] = picture.pixels
        yield {field.name: getattr(picture, field.name) for field in DECODED}


def _failed(fault: Undecodable) -> dict[str, Any]:
    return {"stage": "decode", "error": fault.error, "message": str(fault)}


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
    """One image turned upright, reduced to 8-bit RGB and resized. Raises Undecodable, and MemoryError."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of what becomes a fault or does not matter
        return _decode_image(encoded, config)


def _decode_image(encoded: bytes, config: DecodeConfig) -> Picture:
    image = open_image(encoded, config.max_image_pixels, config.white_level)
    turn = orientation(image)
    stored = image.size[::-1] if turn in SIDEWAYS else image.size
    taken = captured_at(image, config.timezone)
    width, height = tiled_size(stored, config) if config.resize == "tile" else content_size(stored, config)
    if config.resize == "tile" and width * height > config.max_image_pixels:
        size = f"{width} x {height} pixels at scale {config.scale:g}"
        raise Undecodable("too_many_pixels", f"the image has {size}; the limit is {config.max_image_pixels}")
    target = (height, width) if turn in SIDEWAYS else (width, height)
    levels = resized(load_8bit(image, encoded, (target[0] * DCT_MARGIN, target[1] * DCT_MARGIN), config.white_level), *target)
    if turn in TURNS:
        levels = np.asarray(Image.fromarray(levels).transpose(TURNS[turn]))
    if config.resize == "pad":
        levels = _pad(levels, config)
    grey = levels if levels.ndim == 2 else np.asarray(Image.fromarray(levels).convert("L"))
    pixels = levels if levels.ndim == 3 else np.broadcast_to(levels[:, :, None], (*levels.shape, 3))  # (H, W, 3)
    return Picture(pixels, *stored, taken, *grey_statistics(grey))


def content_size(stored: tuple[int, int], config: DecodeConfig) -> tuple[int, int]:
    """(width, height) that an image of `stored` (width, height) takes within what its map shows, on a scale on which that is
    the input: all of it unless padded."""
    if config.resize != "pad":
        return config.width, config.height
    scale = min(config.width / stored[0], config.height / stored[1])
    width, height = (max(1, round(side * scale)) for side in stored)
    return min(width, config.width), min(height, config.height)


def tiled_size(stored: tuple[int, int], config: DecodeConfig) -> tuple[int, int]:
    """(width, height) at which an image of `stored` (width, height) is cut into tiles."""
    width, height = (max(1, round(side * config.scale)) for side in stored)
    return width, height


def cut_tiles(pixels: np.ndarray, origins: Iterable[tuple[int, int]], size: tuple[int, int], into: np.ndarray) -> None:
    """Copy the tiles of (height, width) `size` at `origins` (top, left) to `into` (n, height, width, 3).

    What lies beyond the image is the image mirrored at its edge: repeated edge pixels would be streaks that no training
    tile shows.
    """
    for index, (top, left) in enumerate(origins):
        tile = pixels[top : top + size[0], left : left + size[1]]
        beyond = [(0, size[0] - tile.shape[0]), (0, size[1] - tile.shape[1]), (0, 0)]
        into[index] = np.pad(tile, beyond, mode="symmetric") if tile.shape[:2] != size else tile


def grey_statistics(grey: np.ndarray) -> tuple[float, float, float]:
    """Brightness, contrast and sharpness (schemas/commit.py) of (H, W) uint8, strip by strip.

    All sums are of integers below 2^53, exact in float64 in any order, so they are the same on every machine.
    """
    rows = max(1, STRIP_PIXELS // grey.shape[1])
    counts, sums = [0, 0], [[0, 0], [0, 0]]
    for top in range(0, len(grey), rows):
        levels = grey[max(0, top - 1) : top + rows + 1].astype(np.int16)  # a row of the neighbours on each side
        edges = levels[:-2, 1:-1] + levels[2:, 1:-1] + levels[1:-1, :-2] + levels[1:-1, 2:] - 4 * levels[1:-1, 1:-1]
        for i, values in enumerate((grey[top : top + rows], edges)):
            numbers = values.ravel().astype(np.float64)
            counts[i] += numbers.size
            sums[i][0] += int(numbers.sum())
            sums[i][1] += int(np.vdot(numbers, numbers))
    brightness, contrast = _mean_variance(counts[0], *sums[0])
    return brightness, contrast**0.5, _mean_variance(counts[1], *sums[1])[1] if counts[1] else 0.0


def _mean_variance(count: int, total: int, squares: int) -> tuple[float, float]:
    return total / count, (squares * count - total * total) / count**2


def _pad(levels: np.ndarray, config: DecodeConfig) -> np.ndarray:
    """(h, w[, 3]) centred in (H, W[, 3]), the edge pixels repeated outwards."""
    rows, columns = config.height - levels.shape[0], config.width - levels.shape[1]
    if not rows and not columns:
        return levels
    around = [(rows // 2, rows - rows // 2), (columns // 2, columns - columns // 2)]
    return np.pad(levels, around + [(0, 0)] * (levels.ndim - 2), mode="edge")
