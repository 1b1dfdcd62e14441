"""Reads all masks of a labelled set before anything is scored, so that a fault shows in seconds, not at the last image."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from jobs.images.labelled import GOOD, LabelledImage, LabelledSet
from jobs.images.mask_levels import Defect, Kind, MaskError
from jobs.images.masks import read_mask, turned
from pipeline.decode.exif import SIDEWAYS, TURNS, UPRIGHT, orientation
from pipeline.decode.faults import FAULTS, Undecodable
from pipeline.decode.formats import tiff
from pipeline.decode.formats.first_bytes import format_of

UNSURE_SHARE = 0.01  # of the defect pixels of JPEG masks; a larger share is worth a line


class Stored(NamedTuple):
    """How an image is stored. turn: its EXIF orientation, 1 to 8.  size: (height, width) of the stored pixels."""

    turn: int
    size: tuple[int, int]

    @property
    def upright(self) -> tuple[int, int]:
        """(height, width) once turned."""
        return self.size[::-1] if self.turn in SIDEWAYS else self.size


@dataclass
class MaskCounts:
    """Counts of the defects' masks. kinds: by how their files' values were read.

    empty, covering: masks that mark no pixel, and masks that mark more than half of all pixels.
    defect_pixels, unsure_pixels: pixels of JPEG masks that count as defect, and those near the threshold.
    faint_areas: areas of grey or JPEG masks that count as background, since none of their pixels reaches the threshold.
    turned: masks drawn on the stored pixels of an image that EXIF turns; they are turned with it.
    either_way: masks of such images that fit both ways; they are read as upright.
    of_good: good images with a mask that marks a defect; it is not used.
    """

    defects: int = 0
    without_mask: int = 0
    kinds: dict[Kind, int] = field(default_factory=dict)
    empty: int = 0
    covering: int = 0
    defect_pixels: int = 0
    unsure_pixels: int = 0
    faint_areas: int = 0
    turned: int = 0
    either_way: int = 0
    of_good: int = 0

    def lines(self) -> list[str]:
        """Sentences that a person should read before trusting the figures."""
        lossy, unsure = self.kinds.get("lossy", 0), self.unsure_pixels > UNSURE_SHARE * self.defect_pixels
        near = f"; {self.unsure_pixels} pixels are near it, {self.defect_pixels} count as defect" if unsure else ""
        without = f"{self.without_mask} of {self.defects}" if self.without_mask else 0
        said = [
            ("defect images without a mask", without, "the pixel figures leave them out"),
            ("masks that mark no pixel", self.empty, "all pixels of their images count as good"),
            ("masks that mark more than half of their image", self.covering, "are black and white swapped?"),
            ("mask files with several values", self.kinds.get("classes", 0), "everything but 0 counts as defect"),
            ("JPEG masks", lossy, f"pixels of at least half of the largest value count as defect{near}"),
            ("areas of grey masks below 128 throughout", self.faint_areas, "they count as background"),
            ("masks on the stored pixels of images that EXIF turns", self.turned, "they were turned with their images"),
            ("masks that fit both the stored and the turned image", self.either_way, "they were read as upright"),
            ("good images with a mask that marks a defect", self.of_good, "they count as good"),
        ]
        return [f"{what}: {count} ({meaning})" for what, count, meaning in said if count]


class GroundTruth:
    """Masks of the set's images on upright pixels.

    Raises:
        MaskError: a mask cannot be read or does not fit its image; names the first and counts the others.
    """

    def __init__(self, labelled: LabelledSet) -> None:
        self.counts = MaskCounts()
        self._stored_pixels = False
        faults: list[MaskError] = []
        undecided: list[LabelledImage] = []
        on: Counter[bool] = Counter()
        for image in labelled.images:
            if image.defect_type != GOOD:
                self.counts.defects += 1
                self.counts.without_mask += not image.masks
            if not image.masks:
                continue
            try:
                masks = [read_mask(path) for path in image.masks]
                pixels = _united(masks, image.masks)
                stored = _stored(image.path)
                sides = None if stored is None else list(_ways(masks[0], image, stored))
            except MaskError as fault:
                faults.append(fault)
                continue
            self._count(masks, pixels, image)
            if sides is not None and stored is not None and stored.turn != UPRIGHT and not masks[0].upright:
                if len(sides) == 2:
                    undecided.append(image)
                else:
                    on[sides[0]] += 1
        if faults:
            further = f" Further masks with faults: {len(faults) - 1}." if len(faults) > 1 else ""
            raise MaskError(f"{faults[0]}{further}")
        # One program drew all masks, so those that fit only one way decide for the others.
        self._stored_pixels = on[True] > 0 and on[False] == 0
        self.counts.turned = on[True] + (len(undecided) if self._stored_pixels else 0)
        self.counts.either_way = 0 if on[True] + on[False] and not (on[True] and on[False]) else len(undecided)

    def mask(self, image: LabelledImage, size: tuple[int, int]) -> NDArray[np.bool_] | None:
        """The image's mask, (H, W) bool, all False for a good image; None for a defect without a mask.

        Raises MaskError if the mask does not fit `size`, the (height, width) of the upright image.
        """
        if image.defect_type == GOOD:
            return np.zeros(size, bool)
        if not image.masks:
            return None
        masks = [read_mask(path) for path in image.masks]
        pixels = _united(masks, image.masks)
        stored = _stored(image.path) or Stored(UPRIGHT, size)
        ways = list(_ways(masks[0], image, stored))
        on_stored = ways[0] if len(ways) == 1 else self._stored_pixels
        pixels = turned(pixels, TURNS[stored.turn]) if on_stored else pixels
        if pixels.shape != size:
            raise _other_size(image, pixels.shape, size)
        return pixels

    def _count(self, masks: list[Defect], pixels: NDArray[np.bool_], image: LabelledImage) -> None:
        if image.defect_type == GOOD:
            self.counts.of_good += bool(pixels.any())
            return
        self.counts.empty += not pixels.any()
        self.counts.covering += bool(np.count_nonzero(pixels) * 2 > pixels.size)
        for mask in masks:
            self.counts.kinds[mask.kind] = self.counts.kinds.get(mask.kind, 0) + 1
            self.counts.faint_areas += mask.faint
            if mask.kind == "lossy":
                self.counts.defect_pixels += int(np.count_nonzero(mask.pixels))
                self.counts.unsure_pixels += mask.unsure


def _united(masks: list[Defect], paths: tuple[Path, ...]) -> NDArray[np.bool_]:
    """The pixels that any of an image's masks marks as defect, (H, W)."""
    first = masks[0]
    for mask, path in zip(masks, paths, strict=True):
        if mask.pixels.shape != first.pixels.shape or mask.upright != first.upright:
            sizes = f"{_size(mask.pixels.shape)} and {_size(first.pixels.shape)}"
            raise MaskError(f"{path} must be of the size and orientation of {paths[0]}; got {sizes}. Write both alike.")
    return np.logical_or.reduce([mask.pixels for mask in masks])


def _stored(path: Path) -> Stored | None:
    """Reads the image's header; None if it cannot be read, which scoring will report."""
    try:
        encoded = path.read_bytes()
        if format_of(encoded) != "TIFF":
            image = Image.open(BytesIO(encoded))
            return Stored(orientation(image), image.size[::-1])
        picture = tiff.picture(encoded)  # a thumbnail may stand before it
        size = tiff.opened(picture).size[::-1]
    except (*FAULTS, Undecodable):
        return None
    turn = picture.directory.number("orientation")
    turn = turn if turn in TURNS else UPRIGHT
    return Stored(turn, size[::-1] if turn in SIDEWAYS else size)  # Pillow gives a TIFF's size turned


def _ways(mask: Defect, image: LabelledImage, stored: Stored) -> Iterator[bool]:
    """False if the mask fits the upright pixels, True if it fits the stored ones. Raises MaskError if it fits neither."""
    fits_upright = mask.pixels.shape == stored.upright
    fits_stored = stored.turn != UPRIGHT and not mask.upright and mask.pixels.shape == stored.size
    if not fits_upright and not fits_stored:
        raise _other_size(image, mask.pixels.shape, stored.upright)
    if fits_upright:
        yield False
    if fits_stored:
        yield True


def _other_size(image: LabelledImage, found: tuple[int, ...], size: tuple[int, int]) -> MaskError:
    return MaskError(
        f"{image.masks[0]} must be of its image's size; got {_size(found)}, and test/{image.key} has {_size(size)}. "
        "Draw or scale it to that size, without values in between."
    )


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]} x {shape[0]} pixels"
