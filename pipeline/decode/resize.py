"""Resizes pixels with a triangle filter as wide as the reduction (antialiased bilinear), in fixed-point arithmetic.

The picture alone decides which library resizes it, so it gets the same pixels on every machine. Large colour pictures
go to torch, whose kernel takes a quarter of Pillow's time for them; grey and small ones go to Pillow, where torch gains nothing
and its import would cost seconds. The two differ by at most one level.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from types import ModuleType

import numpy as np
from PIL import Image

FILTER = Image.Resampling.BILINEAR
LARGE_PIXELS = 1 << 19  # for a colour picture of this size Pillow takes 3 ms or more
NO_MEMORY = "can't allocate memory"  # torch's words

around_import: Callable[[], AbstractContextManager[object]] = nullcontext
"""Entered while torch is imported: no picture is charged for that time and memory; pipeline/decode/child.py sets it."""


def resized(levels: np.ndarray, width: int, height: int) -> np.ndarray:
    """(H, W) or (H, W, 3) uint8 to (height, width) or (height, width, 3) uint8. Raises MemoryError."""
    if levels.shape[:2] == (height, width):
        return levels
    if levels.ndim == 2 or levels.shape[0] * levels.shape[1] < LARGE_PIXELS:
        return np.asarray(Image.fromarray(levels).resize((width, height), FILTER))
    torch = _torch()
    # (1, 3, H, W) of the same memory, channels last: torch sees that only where the stride of the first axis is right
    planes = torch.from_numpy(levels)[None].permute(0, 3, 1, 2)
    try:
        with torch.inference_mode():
            found = torch.nn.functional.interpolate(
                planes, size=(height, width), mode="bilinear", align_corners=False, antialias=True
            )
    except RuntimeError as error:
        if NO_MEMORY in str(error):
            raise MemoryError(str(error)) from error
        raise
    return np.ascontiguousarray(found[0].permute(1, 2, 0).numpy())  # (height, width, 3)


@cache
def _torch() -> ModuleType:
    with around_import():
        import torch
    return torch
