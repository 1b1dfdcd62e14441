"""The kinds of requests that commands make, what can happen at one, and a command that it happens to."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

How = Literal["kill before", "kill after", "lost", "fail before", "fail after", "pause before", "pause after"]
HOWS: tuple[How, ...] = ("kill before", "kill after", "lost", "fail before", "fail after", "pause before", "pause after")

PUTS = {  # of the state of an output, by what their keys contain
    "_flowscore/publications/": "manifest",
    "_flowscore/published/": "seal",
    "/entries/": "entry",
    "/commits/": "commit",
    "/tallies/": "tally",
    "/parts/": "part",
    "/artifacts/": "artifact",
    "/calibrations/": "calibration",
    "/lease/": "lease",
    "/attempts/": "attempt",
    "/inventory/": "inventory",
}
PUBLISHING = ("manifest", "seal", "delta", "delta", "delta", "data", "row", "checkpoint")
SCORING = (
    *("manifest", "seal", "entry", "commit", "tally", "delta", "create", "data", "row", "part", "inventory", "listing"),
    *("manifest", "delta", "delta", "delta", "artifact", "attempt", "lease"),
)
JUDGING = ("entry", "entry", "entry", "manifest", "manifest", "manifest", "seal", "seal", "calibration", "delta", "data")
CLEANING = ("vacuum", "delete", "checkpoint", "logs", "manifest", "seal")
"""Kinds of requests that commands make. `listing` is that of an archive, `delta` a commit to a table, `create` its first,
`logs` their cleaning; `row` is the file of `runs`, which is written last, `data` those of other tables."""


OF_DELTA = ("delta", "create", "vacuum", "checkpoint", "logs")


class Killed(BaseException):
    """The process of the command is dead."""


@dataclass
class Fault:
    """At the request number `nth` (of those of the kind `target`, if one is named) of a command.

    decides_anew: what others do in the pause makes a publication decide anew, and it takes nothing back.
    """

    how: How
    nth: int
    target: str | None = None
    meanwhile: Callable[[], None] = lambda: None
    decides_anew: bool = False

    def __str__(self) -> str:
        return f"{self.how} {self.target or 'request'} {self.nth}"


@dataclass
class Running:
    """A command. at: the label of the request at which its fault came.

    written: keys of the data files that it has put.  manifests: numbers of those.  scored: keys of the commits that it was
    to make.  again: those of them that were there when it began to read them.
    """

    fault: Fault | None
    seen: int = 0
    at: str | None = None
    dead: bool = False
    written: list[str] = field(default_factory=list)
    manifests: list[int] = field(default_factory=list)
    scored: list[str] = field(default_factory=list)
    again: list[str] = field(default_factory=list)

    def due(self, label: str) -> How | None:
        if self.fault is None or self.at or self.fault.target not in (None, label):
            return None
        self.seen += 1
        if self.seen <= self.fault.nth:
            return None
        self.at = label
        return self.fault.how


def put_label(key: str) -> str:
    """The kind of a put of this key, below an output."""
    other = "log" if "/_delta_log/" in key else "row" if key.startswith("runs/") else "data"
    return next((label for part, label in PUTS.items() if part in key), other)
