"""What changes a picture, not the padding around it: the picture is cut out, changed, and padded again as decoding pads."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from models.maps.content_box import Box

Image = NDArray[np.uint8]


def cut(image: Image, box: Box | None) -> Image:
    """The part of the image (H, W, 3) in the box; None: all of it.

    >>> cut(np.zeros((8, 8, 3), np.uint8), Box(left=0, top=2, right=8, bottom=5)).shape
    (3, 8, 3)
    """
    return image if box is None else image[box.top : box.bottom, box.left : box.right]


def padded(part: Image, box: Box | None, shape: tuple[int, ...]) -> Image:
    """The part in its box of an image of that (H, W), its edge pixels repeated outwards (pipeline/decode/image.py).

    >>> padded(np.array([[[3], [4]]], np.uint8), Box(left=1, top=0, right=3, bottom=1), (2, 4))[..., 0].tolist()
    [[3, 3, 4, 4], [3, 3, 4, 4]]
    """
    if box is None:
        return part
    around = [(box.top, shape[0] - box.bottom), (box.left, shape[1] - box.right), (0, 0)]
    return np.pad(part, around, mode="edge")


def within(image: Image, box: Box | None, change: Callable[[Image], Image]) -> Image:
    """The image (H, W, 3), the picture in the box changed.

    >>> image = np.full((4, 2, 3), 9, np.uint8)
    >>> within(image, Box(left=0, top=1, right=2, bottom=3), lambda part: part + np.uint8(1)).min().item()
    10
    """
    return padded(change(cut(image, box)), box, image.shape[:2])
