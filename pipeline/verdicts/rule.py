"""The rule by which a ledger's scores of one model become verdicts."""

from pydantic import BaseModel, ConfigDict, Field, field_validator

from models.verdicts.rates import rate_of


class Rule(BaseModel):
    """What a person decided. rate and false_share are texts, since 0.29 is no float."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    calibration: str | None = Field(None, description="digest of the calibration; null: nothing is judged")
    rate: str = Field("0.05", description="share of good pieces that may be flagged")
    review_budget: int | None = Field(
        None, ge=1, description="pieces a night that people can look at: the most anomalous ones are flagged, whatever the rate"
    )
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

    def texts(self) -> dict[str, str | None]:
        """Its settings as the table `decisions` has them."""
        return {name: None if value is None else str(value) for name, value in self.model_dump().items()}
