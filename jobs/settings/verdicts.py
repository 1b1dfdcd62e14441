"""The settings by which scores become verdicts, of `flowscore score` and `flowscore judge`."""

import getpass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from models.verdicts.rates import rate_of
from pipeline.state.judges import Ruling
from pipeline.verdicts.rule import Rule

RULE = Rule.model_fields


class VerdictOptions(BaseModel):
    """What a command may decide; what it leaves out stays as the ledger has it, at first the defaults of `Rule`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rate: str | None = Field(
        None, description=f"{RULE['rate'].description}; as before by default, at first {RULE['rate'].default}"
    )
    review_budget: int | None = Field(None, ge=0, description=f"{RULE['review_budget'].description}; 0 for none")
    false_share: str | None = Field(None, description=str(RULE["false_share"].description))
    max_unreadable: float | None = Field(None, ge=0, le=1, description=str(RULE["max_unreadable"].description))
    most_needed: int | None = Field(None, ge=0, description=f"{RULE['most_needed'].description}; 0 for none")
    decided_by: str | None = Field(None, description="who decides, for the table decisions; default: the login name")

    @field_validator("rate", "false_share", mode="before")
    @classmethod
    def _is_a_rate(cls, value: Any) -> str | None:
        """A number of a YAML file becomes text too."""
        if value is None:
            return None
        rate_of(str(value))
        return str(value)

    def ruling(self, digest: str, calibration: str | None, directory: Path) -> Ruling:
        """What these settings decide of the scores of a model; see `Ruling`."""
        settings = self.model_dump(exclude_none=True, exclude={"decided_by"})
        for name in ("review_budget", "most_needed"):
            if settings.get(name) == 0:
                settings[name] = None
        return Ruling(digest, calibration, directory, settings, self.decided_by or _login())


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run a user that has no name
        return "unknown"
