"""A rule with its calibration at hand: all that a verdict depends on besides the images."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING

from models.calibration.calibration import Calibration
from models.verdicts.image_p import ImageCalibration
from models.verdicts.rates import rate_of
from pipeline.verdicts.rule import Rule

if TYPE_CHECKING:
    from models.calibration.lot_decision import Kind


Nights = Mapping[tuple[str, str], str]
"""Reasons by group of drift (pipeline/verdicts/shown.py: `drift_groups`) and production day."""


@dataclass(frozen=True, eq=False)
class Judge:
    """A rule with its calibration, for images that one model scored.

    digest: of the model.  calibration: None if it has none; then nothing is judged.
    thresholds: with a review budget, the piece score of each night above which pieces are flagged; see review_budget.py.
    suspended: nights that drift has made unlike the calibration: nothing of them is judged.  watched: nights that may be.
    """

    digest: str
    rule: Rule = Rule()
    calibration: Calibration | None = None
    thresholds: Mapping[str, float] = field(default_factory=dict)
    suspended: Nights = field(default_factory=dict)
    watched: Nights = field(default_factory=dict)

    @functools.cached_property
    def rate(self) -> Fraction:
        return rate_of(self.rule.rate)

    @property
    def by_piece(self) -> bool:
        """Whether several images may show one piece."""
        return self.calibration is not None and bool(self.calibration.keys.piece)

    @property
    def key_names(self) -> tuple[str, ...]:
        """Key columns that the verdict on an image depends on, besides `lot`."""
        if self.calibration is None:
            return ()
        keys = self.calibration.keys
        named = (*keys.piece, *filter(None, [keys.view]), *keys.by)
        return tuple(dict.fromkeys(name for name in named if name != "lot"))

    @functools.cached_property
    def kinds(self) -> dict[tuple[int, int], "Kind"]:
        """What pieces are compared with, by (position of the group, row of its sets); those that are large enough."""
        if self.calibration is None:
            return {}
        from models.calibration.lot_decision import kind_of  # scipy's statistics take half a second, which most commands save

        found = {
            (at, row): kind_of(self.calibration, group, row, self.rate)
            for at, group in enumerate(self.calibration.groups)
            for row in range(len(group.sets))
        }
        return {place: kind for place, kind in found.items() if kind is not None}

    @functools.cached_property
    def images(self) -> dict[tuple[int, str], ImageCalibration]:
        """Good images, for an image's own p-value, by (position of the group, view)."""
        if self.calibration is None:
            return {}
        views = self.calibration.selection.scales.views.tolist()
        groups = enumerate(self.calibration.groups)
        return {(at, view): self.calibration.images_of(group, view) for at, group in groups for view in views}
