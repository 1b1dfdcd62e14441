"""How far the scores of another scoring mode move images among the pieces of a calibration."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from models.calibration.calibration import Calibration, StoredImage
from models.faults import VerdictError
from models.verdicts.ranks import ranks
from models.verdicts.view_scales import on_scale


class RankShift(NamedTuple):
    """images: compared.  largest, median: difference in rank among `pieces` calibration pieces."""

    images: int
    largest: int
    median: float
    pieces: int

    def sentence(self, other: str, than: str) -> str:
        """In words.

        >>> RankShift(200, largest=3, median=0.0, pieces=212).sentence("cuda", "cpu")
        '200 stored images, scored on cuda instead of cpu: ranks differ by 3 at most, 0 in the median, of 212 pieces'
        """
        differ = f"ranks differ by {self.largest:,} at most, {self.median:g} in the median, of {self.pieces:,} pieces"
        return f"{self.images:,} stored images, scored on {other} instead of {than}: {differ}"


def rank_shift(earlier: Calibration, images: Sequence[StoredImage], scores: Sequence[float]) -> RankShift:
    """The differences between the ranks of the stored scores and of the new ones, among the earlier calibration's pieces.

    Args:
        images: stored images of the earlier calibration that were scored again.
        scores: their raw scores in the other mode.

    >>> from models.calibration.example import calibration
    >>> made = calibration(pieces=60)
    >>> rank_shift(made, made.stored, [image.score for image in made.stored]).largest
    0
    """
    if not images or len(images) != len(scores):
        raise VerdictError(f"scores must be one for each of 1 or more images; got {len(scores)} for {len(images)} images.")
    views = np.array([image.view for image in images], np.str_)
    pieces, scales = earlier.groups[0].scores(), earlier.selection.scales
    before, after = (ranks(on_scale(raw, views, scales), pieces) for raw in ([image.score for image in images], list(scores)))
    difference = np.abs(before - after)
    return RankShift(len(images), int(difference.max()), float(np.median(difference)), len(pieces))
