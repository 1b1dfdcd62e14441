"""Writes a labelled set of blank pictures quickly: only names and sizes matter."""

from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (40, 30)  # width, height


def touch(path: Path, size: tuple[int, int] = SIZE, mark: bool = False, orientation: int | None = None) -> Path:
    """A picture, or a mask with a mark in its upper left corner."""
    pixels = np.zeros(size[::-1], np.uint8)
    pixels[2:8, 3:9] = 255 * mark
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    if orientation is not None:
        exif[274] = orientation
    Image.fromarray(pixels).save(path, {".tif": "TIFF"}.get(path.suffix.lower()), exif=exif)
    return path


def tree(root: Path, *masks: str, images: tuple[str, ...] = ("hole/000.png", "hole/001.png")) -> Path:
    """test/good/000.png, the images below test/ and the masks below ground_truth/."""
    touch(root / "test" / "good" / "000.png")
    for name in images:
        touch(root / "test" / name)
    for name in masks:
        touch(root / "ground_truth" / name, mark=True)
    return root
