"""Which part of a model's input, and so of a map, shows an image."""

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol


class Box(NamedTuple):
    """A part of the model's input, px; right and bottom are the first column and row outside."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def height(self) -> int:
        return self.bottom - self.top

    def cells(self, size: tuple[int, int], grid: tuple[int, int]) -> tuple[slice, slice]:
        """Rows and columns of a map of (h, w) cells over an input of (H, W) px whose cells show some of it.

        >>> Box(left=0, top=16, right=64, bottom=48).cells((64, 64), (8, 8))
        (slice(2, 6, None), slice(0, 8, None))
        """
        return shown_cells(self.top, self.bottom, size[0], grid[0]), shown_cells(self.left, self.right, size[1], grid[1])


def shown_cells(start: int, end: int, length: int, count: int) -> slice:
    """The cells, out of `count` equal ones along `length` px, that show some of the pixels from start to end.

    >>> shown_cells(16, 48, 64, count=8)
    slice(2, 6, None)
    """
    return slice(start * count // length, -(-end * count // length))


def boxes_at(boxes: Sequence[Box] | None, positions: Sequence[int]) -> list[Box | None]:
    """Those of some images; None for each where none are known, since every input shows nothing but its picture.

    >>> boxes_at(None, [3, 1])
    [None, None]
    """
    return [None if boxes is None else boxes[i] for i in positions]


class Sized(Protocol):
    """What a model's input and the settings of decoding both say. height, width: of the input, px."""

    @property
    def height(self) -> int: ...

    @property
    def width(self) -> int: ...

    @property
    def resize(self) -> Literal["squash", "pad", "tile"]: ...


def content_box(stored: tuple[int, int], config: Sized) -> Box:
    """The part of the model's input, and so of a map, that shows an image of `stored` (width, height) px: all of it, or the
    middle when the image is padded.

    >>> from models.config import InputConfig
    >>> content_box((400, 100), InputConfig(height=64, width=64, resize="pad"))
    Box(left=0, top=24, right=64, bottom=40)
    """
    if config.resize != "pad":
        return Box(0, 0, config.width, config.height)
    scale = min(config.width / stored[0], config.height / stored[1])
    width, height = (max(1, round(side * scale)) for side in stored)
    width, height = min(width, config.width), min(height, config.height)
    left, top = (config.width - width) // 2, (config.height - height) // 2
    return Box(left, top, left + width, top + height)
