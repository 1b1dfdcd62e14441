"""Light as a nuisance in training: beside every training image, copies of it in other light, which are good too.

To a detector a copy is one more image: it has a position of its own. So fit, whitening and statistics know nothing of light.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.alterations.light import drawn, lit
from models.alterations.picture import within
from models.detector import Detector, Features, FitRun
from models.features.store import ImageFeatures
from models.maps.content_box import Box, boxes_at
from models.maps.grids import Maps

BATCH = 16
FIELDS = 7  # tells these generators from those of other draws with the same seed


@dataclass(frozen=True)
class Light:
    """strength: the most that light changes, 0.4 is 40 % (models/alterations/light.py: drawn).  copies: of every image."""

    strength: float
    copies: int = 1


class Learned(NamedTuple):
    """What a detector is fitted to.

    of: positions of images, (N,) int64, to those of all that is made of these images.  stored_bytes: what the copies take on
    disk.
    """

    features: Features
    of: Callable[[Tensor], Tensor] = lambda positions: positions
    stored_bytes: int = 0


@contextmanager
def with_copies(
    detector: Detector,
    images: ImageFeatures,
    positions: Tensor,
    light: Light,
    run: FitRun,
    workspace: Path,
    on_phase: Callable[[str], None] = lambda phase: None,
    say: Callable[[str], None] = lambda line: None,
    identity: str | None = None,
) -> Iterator[Learned]:
    """The images, with copies of those at the positions (N,), int64. Pixels and features of the copies lie in the workspace
    until the end, and stay there under an identity.

    on_phase: called with "light" before copies are made.

    >>> import tempfile
    >>> from models import registry
    >>> from models.config import ArtifactConfig, InputConfig
    >>> size, few = InputConfig(height=64, width=64), {"bank_size": 8}
    >>> detector = registry.build(ArtifactConfig(name="tile", detector="patchsvdd", input=size, hyperparameters=few))
    >>> with tempfile.TemporaryDirectory() as folder, ImageFeatures(detector, Path(folder), "good") as images:
    ...     images.append(torch.full((4, 64, 64, 3), 100, dtype=torch.uint8))
    ...     run = FitRun(detector.Training())
    ...     with with_copies(detector, images, torch.arange(2), Light(0.4), run, Path(folder)) as learned:
    ...         learned.of(torch.tensor([1])), learned.features.read(torch.tensor([5]))[0].shape
    (tensor([1, 5]), torch.Size([1, 3, 64, 64]))
    """
    assert images.boxes is not None or detector.config.input.resize != "pad", "where padded images lie"
    with ImageFeatures(detector, workspace, "lit", run.device, identity, say) as copies:
        if copies.about is None:
            on_phase("light")
            for number in range(light.copies):
                for batch in run.batches("making copies in other light", positions, BATCH):
                    pixels = images.pixels.read(batch).numpy()
                    boxes = boxes_at(images.boxes, batch.tolist())
                    made = in_other_light(pixels, batch.tolist(), number, light.strength, run.seed, boxes)
                    copies.append(torch.from_numpy(made))
            copies.complete(light.strength)
        both = WithCopies(images, copies, positions, len(images), light.copies)
        yield Learned(both, both.of, copies.stored_bytes)


def in_other_light(
    pixels: NDArray[np.uint8],
    positions: list[int],
    number: int,
    strength: float,
    seed: int,
    boxes: Sequence[Box | None] | None = None,
) -> NDArray[np.uint8]:
    """Images (B, H, W, 3), uint8, each in a light of its own, which depends on the seed, its position and the copy's number.

    boxes: the part of each that shows the picture, where it is padded: its light rises over the picture.

    >>> grey = np.full((2, 4, 4, 3), 100, np.uint8)
    >>> both = in_other_light(grey, [3, 4], number=0, strength=0.4, seed=0)
    >>> bool((both[1] == in_other_light(grey[1:], [4], number=0, strength=0.4, seed=0)).all()), bool((both[0] != both[1]).any())
    (True, True)
    """
    fields = [drawn(strength, np.random.default_rng((seed, FIELDS, number, position))) for position in positions]
    return np.stack(
        [
            within(image, box, partial(lit, field=field))
            for image, field, box in zip(pixels, fields, boxes or [None] * len(pixels), strict=True)
        ]
    )


class WithCopies:
    """Features of images and of their copies. Copy c of the image at position p has the position (1 + c) * count + p.

    made: positions of the images that have copies, (N,), in the order in which the copies were added, all first copies before
        all second ones.
    count: of all images.

    >>> from types import SimpleNamespace
    >>> images, copies = (SimpleNamespace(read=lambda rows, sign=sign: [sign * rows[:, None] * 1.0]) for sign in (1, -1))
    >>> both = WithCopies(images, copies, torch.tensor([2, 5]), count=8, number=1)
    >>> both.of(torch.tensor([5])).tolist(), both.read(torch.tensor([5, 13, 2]))[0].flatten().tolist()
    ([5, 13], [5.0, -1.0, 2.0])
    """

    def __init__(self, images: Features, copies: Features, made: Tensor, count: int, number: int):
        self._images, self._copies, self._count, self._number = images, copies, count, number
        self._made = len(made)
        self._row = torch.full((count,), -1, dtype=torch.int64)
        self._row[made] = torch.arange(len(made))

    def of(self, positions: Tensor) -> Tensor:
        """The positions of the images, (N,), and after them those of their copies."""
        return torch.cat([positions + number * self._count for number in range(1 + self._number)])

    def read(self, positions: Tensor) -> Maps:
        """As Features.read."""
        copied = positions >= self._count
        chosen = positions[copied]
        rows = self._row[chosen % self._count]
        assert bool((rows >= 0).all()), "an image without a copy"
        rows += (chosen // self._count - 1) * self._made
        if bool(copied.all()):
            return self._copies.read(rows)
        found = self._images.read(positions[~copied])
        if not len(rows):
            return found
        joined = []
        for plain, other in zip(found, self._copies.read(rows), strict=True):
            maps = plain.new_empty(len(positions), *plain.shape[1:])
            maps[~copied], maps[copied] = plain, other
            joined.append(maps)
        return joined
