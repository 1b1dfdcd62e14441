"""The tally of a slice whose units are all committed: its objects with errors, ascending, and its counts in the footer."""

import json
from dataclasses import asdict, dataclass
from dataclasses import field as field_of

import pyarrow as pa

from schemas.field import field
from schemas.footer import StageSeconds
from schemas.inventory import IDENTITY
from schemas.scored_on import ScoredOn

VERSION = 1
WORKER_DIED = "worker_died"
MAY_CHANGE = ("gone", "changed", "refused", "archived", WORKER_DIED)
"""Errors that say nothing about an image, only about one attempt to read or score it: such an object is planned again when its
listing changes, and its rows never replace others."""

SCHEMA = pa.schema(
    [
        IDENTITY,
        field("outcome", pa.string(), "error of its images; one of MAY_CHANGE when there is one", nullable=False),
        field("images", pa.int64(), "images of the object with an error", "images", nullable=False),
    ]
)


@dataclass(frozen=True)
class Tally:
    """Counts of a slice: planned = scored + quarantined.

    reasons: quarantined images by error.  examples: the key of the first such image, by error; a tally of before has none.
    archives: keys of archives that are not read, the first few of `archive_count`.
    scored_on: what scored, each with its number of images.
    """

    scored: int = 0
    quarantined: int = 0
    ignored: int = 0
    bytes_read: int = 0
    seconds: StageSeconds = StageSeconds()
    reasons: dict[str, int] = field_of(default_factory=dict)
    archives: tuple[str, ...] = ()
    archive_count: int = 0
    scored_on: tuple[tuple[ScoredOn, int], ...] = ()
    examples: dict[str, str] = field_of(default_factory=dict)

    @property
    def planned(self) -> int:
        return self.scored + self.quarantined

    def text(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def parse(cls, text: str | bytes) -> "Tally":
        read = json.loads(text)
        scored_on = tuple((ScoredOn(*on), images) for on, images in read.get("scored_on", ()))
        named = {"seconds": StageSeconds(*read["seconds"]), "archives": tuple(read["archives"]), "scored_on": scored_on}
        return cls(**read | named)
