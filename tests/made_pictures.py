"""Small pictures of noise that was smoothed, encoded in memory."""

import io
from typing import Any

import numpy as np
from PIL import Image


def picture(kind: str = "JPEG", mode: str = "RGB", size: tuple[int, int] = (90, 60), **options: Any) -> bytes:
    """size: (width, height), px.  options: of Pillow's encoder."""
    sink = io.BytesIO()
    levels = np.random.default_rng(0).integers(0, 255, (size[1] // 5, size[0] // 5, 3), dtype=np.uint8)
    Image.fromarray(levels).resize(size).convert(mode).save(sink, kind, **options)
    return sink.getvalue()
