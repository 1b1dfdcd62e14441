"""Which part of a model's input, and so of a map, shows an image."""

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
