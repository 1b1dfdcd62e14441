"""A model's region of interest: the part of its images that counts, as a mask that the model's config keeps.

The mask has a size of its own. A picture of any size gets the mask's pixel under the middle of each of its own, so a picture
of the mask's size gets the mask itself. What lies outside is drawn over with one grey level before anything else reads the
picture, the resize included: then nothing that follows can depend on it. The level is one for all colours, so that a grey
picture stays grey, and near the mean of the photographs that backbones are trained on, so that they see little there.
"""

import base64
import binascii
import zlib
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.maps.content_box import Box, Sized, content_box

FILL = 117  # the mean of ImageNet's mean colour, (124, 116, 104)
LARGEST_TEXT, MOST_PIXELS = 1 << 18, 1 << 27
SHAPE_TOLERANCE = 0.02  # of a picture's aspect ratio: small ones round their sides

Mask = NDArray[np.bool_]


class RegionOfInterest(BaseModel):
    """A mask. height, width: its own, px. share: of its pixels that are inside. pixels: its rows from the top, a bit a pixel,
    first bits high, the last byte filled with zeros; deflated (zlib), then in base64.

    >>> region = RegionOfInterest.of(np.array([[False, True, True, False]]))
    >>> region.height, region.width, region.share, region.mask().tolist()
    (1, 4, 0.5, [[False, True, True, False]])
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    height: int = Field(ge=1)
    width: int = Field(ge=1)
    share: float = Field(gt=0, le=1)
    pixels: str = Field(max_length=LARGEST_TEXT)

    @classmethod
    def of(cls, mask: Mask) -> Self:
        """(h, w) bool, True inside. Raises ValueError for a mask without such a pixel, or one too ragged to be kept."""
        text = base64.b64encode(zlib.compress(np.packbits(mask).tobytes(), 9)).decode()
        height, width = mask.shape
        return cls(height=height, width=width, share=float(mask.mean()), pixels=text)

    @model_validator(mode="after")
    def _unpacks(self) -> Self:
        if self.height * self.width > MOST_PIXELS:
            raise ValueError(f"roi must have at most {MOST_PIXELS} pixels; got {self.height} x {self.width}. Draw it smaller.")
        if not self.mask().any():
            raise ValueError("roi must have a pixel inside; got none. Restore the model's config.")
        return self

    def mask(self) -> Mask:
        """(height, width), True inside; not to be written to. Raises ValueError."""
        return _unpacked(self.pixels, self.height, self.width)

    def fits(self, height: int, width: int) -> bool:
        """Whether a picture of this size has the mask's aspect ratio.

        >>> RegionOfInterest.of(np.ones((60, 80), bool)).fits(height=600, width=801)
        True
        """
        return abs(width * self.height / (height * self.width) - 1) <= SHAPE_TOLERANCE

    def at_size(self, height: int, width: int) -> Mask:
        """The mask of a picture of this size, (height, width), True inside; not to be written to."""
        return _at_size(self, height, width)


class WithRegion(Sized, Protocol):
    """A model's input, or the settings of decoding for it."""

    @property
    def roi(self) -> RegionOfInterest | None: ...


def inside(config: WithRegion) -> Mask | None:
    """The pixels of the model's input that count, (height, width): those of which at least half are inside, where a picture
    of the mask's aspect ratio lies. None without a region of interest. Not to be written to.

    >>> from models.config import InputConfig
    >>> mask = np.zeros((40, 40), bool)
    >>> mask[:, 20:] = True
    >>> inside(InputConfig(height=16, width=16, roi=RegionOfInterest.of(mask))).sum()
    np.int64(128)
    """
    if config.roi is None:
        return None
    box = content_box((config.roi.width, config.roi.height), config)
    return _inside(config.roi, config.height, config.width, box)


def cells_inside(config: WithRegion, grid: tuple[int, int]) -> Mask | None:
    """The cells of a map of the model's input that count, (h, w): those of which any pixel does; None without a region.

    >>> from models.config import InputConfig
    >>> mask = np.zeros((16, 16), bool)
    >>> mask[4, 9] = True
    >>> cells_inside(InputConfig(height=16, width=16, roi=RegionOfInterest.of(mask)), grid=(2, 2)).tolist()
    [[False, True], [False, False]]
    """
    pixels = inside(config)
    return None if pixels is None else touched(pixels, grid)


def touched(pixels: Mask, grid: tuple[int, int]) -> Mask:
    """The cells of a grid over (H, W) pixels of which any pixel is True; a pixel on the border of cells is of both.

    >>> touched(np.array([[False, True, False]]), grid=(1, 2))
    array([[ True,  True]])
    """
    rows = np.stack([part.any(0) for part in _parts(pixels, grid[0])])  # (h, W)
    return np.stack([part.any(0) for part in _parts(rows.T, grid[1])], axis=1)  # (h, w)


def _parts(pixels: Mask, count: int) -> Sequence[Mask]:
    """The rows of each part, first and last ones shared where they lie in two."""
    side = len(pixels)
    return [pixels[i * side // count : -(-(i + 1) * side // count)] for i in range(count)]


@lru_cache(maxsize=4)
def _unpacked(text: str, height: int, width: int) -> Mask:
    size = -(-height * width // 8)
    try:
        unpacker = zlib.decompressobj()
        packed = unpacker.decompress(base64.b64decode(text, validate=True), size)
    except (binascii.Error, zlib.error) as error:
        raise ValueError(f"roi must hold a deflated mask in base64; {error}. Restore the model's config.") from error
    if len(packed) != size or not unpacker.eof and unpacker.decompress(unpacker.unconsumed_tail, 1):
        raise ValueError(f"roi must hold {height} x {width} pixels; it holds another number. Restore the model's config.")
    bits = np.unpackbits(np.frombuffer(packed, np.uint8), count=height * width)
    mask = bits.view(bool).reshape(height, width)  # (h, w)
    mask.flags.writeable = False
    return mask


@lru_cache(maxsize=4)
def _at_size(region: RegionOfInterest, height: int, width: int) -> Mask:
    if (height, width) == (region.height, region.width):
        return region.mask()
    rows = (2 * np.arange(height) + 1) * region.height // (2 * height)
    columns = (2 * np.arange(width) + 1) * region.width // (2 * width)
    mask = region.mask()[rows][:, columns]  # (height, width)
    mask.flags.writeable = False
    return mask


@lru_cache(maxsize=4)
def _inside(region: RegionOfInterest, height: int, width: int, box: Box) -> Mask:
    down, across = _Parts.of(region.height, box.height), _Parts.of(region.width, box.width)
    counts = np.add.reduceat(region.mask(), across.starts, axis=1, dtype=np.int32)
    counts = np.add.reduceat(counts, down.starts, axis=0)  # (box.height, box.width)
    mask = np.zeros((height, width), bool)
    mask[box.top : box.bottom, box.left : box.right] = 2 * counts >= down.sizes[:, None] * across.sizes
    mask.flags.writeable = False
    return mask


class _Parts(NamedTuple):
    """A side cut into parts of nearly one size; where they are more than its pixels, a pixel is several of them."""

    starts: NDArray[np.int64]
    sizes: NDArray[np.int64]

    @classmethod
    def of(cls, side: int, count: int) -> "_Parts":
        edges = np.arange(count + 1) * side // count
        return cls(edges[:-1], np.maximum(np.diff(edges), 1))
