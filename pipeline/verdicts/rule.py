"""The rule by which a ledger's scores of one model become verdicts, and the rule with its calibration at hand."""

import functools
from dataclasses import dataclass
from fractions import Fraction

from pydantic import BaseModel, ConfigDict, Field, field_validator

from models.calibration.calibration import Calibration
from models.calibration.lot_decision import Kind, kind_of
from models.verdicts.rates import rate_of


class Rule(BaseModel):
    """What a person decided. rate and false_share are texts, since 0.29 is no float."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    calibration: str | None = Field(None, description="digest of the calibration; null: nothing is judged")
    rate: str = Field("0.05", description="share of good pieces that may be flagged")
    false_share: str = Field("0.1", description="share of false ones among the pieces of a lot that stand out together")
    max_unreadable: float = Field(0.05, ge=0, le=1, description="share of a lot's images that may be unreadable")
    most_needed: int | None = Field(
        None, ge=1, description="a calibration by which more pieces of a lot must stand out together than this is too small"
    )

    @field_validator("rate", "false_share")
    @classmethod
    def _is_a_rate(cls, text: str) -> str:
        rate_of(text)
        return text


@dataclass(frozen=True, eq=False)
class Judge:
    """A rule with its calibration, for images that one model scored.

    digest: of the model.  calibration: None if it has none; then nothing is judged.
    """

    digest: str
    rule: Rule = Rule()
    calibration: Calibration | None = None

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
    def kinds(self) -> dict[tuple[int, int], Kind]:
        """What pieces are compared with, by (position of the group, row of its sets); those that are large enough."""
        if self.calibration is None:
            return {}
        found = {
            (at, row): kind_of(self.calibration, group, row, self.rate)
            for at, group in enumerate(self.calibration.groups)
            for row in range(len(group.sets))
        }
        return {place: kind for place, kind in found.items() if kind is not None}
