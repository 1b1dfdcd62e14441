"""One line of what `flowscore doctor` says."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """One line of the report; `fix` is empty if all is well."""

    level: Literal["ok", "warn", "fail"]
    subject: str
    text: str
    fix: str = ""

    def __str__(self) -> str:
        lines = (f"{'':<16}{line}" for line in self.fix.splitlines())
        return "\n".join([f"{self.level:<5}{self.subject:<11}{self.text}", *lines])
