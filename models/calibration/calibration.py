"""A calibration: what good pieces score in one scoring mode, and so what the score of a new piece means.

It belongs to one model and holds for one mode and one grid: scores of another device, precision, batch size, scoring version or
map size are not compared with it. `build` makes one, `files` keeps it in the model's folder.
"""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.faults import VerdictError
from models.maps.map_scale import MapScale
from models.verdicts.image_p import ImageCalibration, image_calibration
from models.verdicts.view_scales import ViewScales

LEAST_LOTS = 5  # of a group that is compared with itself instead of with all good pieces


class Mode(NamedTuple):
    """label: device type and precision of convolutions, "cpu-float32", as `scores.device` has it."""

    label: str
    batch_size: int
    scoring_version: int


class Grid(NamedTuple):
    """height, width, resize: of the model's input, px.  maps: rows and columns of the good images' maps, each size once."""

    height: int
    width: int
    resize: str
    maps: tuple[tuple[int, int], ...]


class Keys(NamedTuple):
    """How pieces, views, lots and groups were found: by names of key columns, which `pattern` reads from the path.

    piece: names whose values together name a piece; () if an image is a piece.  view, lot: None if there are none.
    by: whose values may have calibrations of their own.
    """

    pattern: str | None = None
    piece: tuple[str, ...] = ()
    view: str | None = None
    lot: str | None = None
    by: tuple[str, ...] = ()


class Group(NamedTuple):
    """Good pieces that new ones are compared with, complete ones only.

    by: values of the `by` keys; () for all pieces.
    sets: images of each view that a complete piece has, (K, V); with several rows each is a calibration of its own.
    score: largest z of a piece, (P,), float32, rising.  number: its row of `sets`.  lot: its lot, a position in
        `Calibration.lots`.  piece: its number in `GoodImages.piece`.  All (P,).
    """

    by: tuple[str, ...]
    sets: NDArray[np.int64]
    score: NDArray[np.float32]
    number: NDArray[np.int64]
    lot: NDArray[np.int64]
    piece: NDArray[np.int64]

    def scores(self, row: int = 0) -> NDArray[np.float32]:
        """The sorted scores of the pieces of one row of `sets`, (n,)."""
        return self.score[self.number == row]

    def calibrations(self) -> list[NDArray[np.float32]]:
        """`scores` of every row, as `pieces.verdicts` takes them."""
        return [self.scores(row) for row in range(len(self.sets))]

    def enough(self, rate: Fraction) -> bool:
        """Whether the group may stand for itself at this rate: n >= 5 / rate - 1 pieces from 5 lots."""
        return len(self.scores()) >= math.ceil(5 / rate) - 1 and len(np.unique(self.lot)) >= LEAST_LOTS


class GoodImages(NamedTuple):
    """Images of complete pieces, each column (I,). score: raw, float32.  piece: from 0.  view: a position in the scales."""

    score: NDArray[np.float32]
    piece: NDArray[np.int64]
    view: NDArray[np.int64]


class Selection(NamedTuple):
    """What was fixed before any calibration score was seen: the scales, and pieces of the selection set.

    basis: how the scales were found, in words.  score: largest z of each complete piece, (S,), float32.  lot: numbers from 0.
    """

    scales: ViewScales
    basis: str
    score: NDArray[np.float32]
    lot: NDArray[np.int64]


class StoredImage(NamedTuple):
    """An image of the calibration, kept to compare another scoring mode. member: its name in a shard.  score: raw."""

    uri: str
    member: str | None
    content_hash: str
    view: str
    score: float


class Detected(NamedTuple):
    """Pieces with defects that were flagged at a rate. size_class: "" for all together.  rate: as it was written."""

    rate: str
    size_class: str
    flagged: int
    pieces: int


class Challenge(NamedTuple):
    """Pieces with known or seeded defects, and what was found of them."""

    uri: str
    detected: tuple[Detected, ...]


class Agreement(NamedTuple):
    """Pieces that were imaged repeatedly, at a rate. rate: as it was written.  agreeing: all of whose verdicts are the same.
    pairs: the chance that two imagings of a piece get the same verdict, mean over pieces.  flagged: at least once."""

    rate: str
    agreeing: int
    pieces: int
    pairs: float
    flagged: int


class Repeats(NamedTuple):
    """Pieces that were taken out and imaged again. fewest, most: complete imagings of a piece that counts.
    once: pieces with fewer than two, which say nothing.  incomplete: imagings that do not count."""

    uri: str
    fewest: int
    most: int
    once: int
    incomplete: int
    agreements: tuple[Agreement, ...]


@dataclass(frozen=True, eq=False)
class Calibration:
    """groups: all good pieces first, then each value of the `by` keys that has enough of its own.
    lots: their names; ("",) if no lot is known.  seen: the values of each `by` key, sorted.
    hashes: of the contents of the calibration's images, sorted, 32 hex digits each.
    map_scale: of heat maps, by the cells of the good images' maps; None in files of earlier versions.
    """

    model_digest: str
    mode: Mode
    grid: Grid
    keys: Keys
    selection: Selection
    groups: tuple[Group, ...]
    images: GoodImages
    lots: tuple[str, ...]
    seen: tuple[tuple[str, ...], ...]
    hashes: tuple[str, ...]
    stored: tuple[StoredImage, ...]
    challenge: Challenge | None = None
    repeats: Repeats | None = None
    map_scale: MapScale | None = None

    def knows_lots(self) -> bool:
        """Whether its images said from which lot they are."""
        return self.keys.lot is not None

    def group_for(self, by: tuple[str, ...], rate: Fraction) -> Group | None:
        """The group that a new piece is compared with at a rate: its own if that has enough pieces, else all.

        Args:
            by: values of the `by` keys, in their order.
        Returns:
            None if a value was never seen in calibration: such a piece is not judged, never pooled in silence.

        >>> from models.calibration.example import calibration
        >>> made = calibration(pieces=60)
        >>> made.group_for(("B",), Fraction("0.1")) is made.groups[0], made.group_for(("Z",), Fraction("0.1"))
        (True, None)
        """
        if len(by) != len(self.keys.by):
            rule = f"one value for each of {', '.join(self.keys.by) or 'no keys'}"
            raise VerdictError(f"by must be {rule}; got {by!r}. Give the values of the calibration's keys.")
        if any(value not in seen for value, seen in zip(by, self.seen, strict=True)):
            return None
        own = next((group for group in self.groups[1:] if group.by == by), None)
        return own if own is not None and own.enough(rate) else self.groups[0]

    def images_of(self, group: Group, view: str) -> ImageCalibration:
        """The images of a view of the group's pieces, for an image's own p-value. Raises VerdictError if there are none.

        >>> from models.calibration.example import calibration
        >>> made = calibration(pieces=60)
        >>> made.images_of(made.groups[0], view="").pieces
        60
        """
        scales = self.selection.scales
        mine = np.isin(self.images.piece, group.piece) & (scales.views[self.images.view] == view)
        return image_calibration(self.images.score[mine], self.images.piece[mine])
