"""The footer of a commit describes its whole unit: texts in the file's key-value metadata, one type in the code."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import NamedTuple

from schemas.commit import VERSION
from schemas.scored_on import ScoredOn

END = "end"
LATER = ("hardware", "one_by_one")
"""Entries that commits of earlier versions lack."""


class StageSeconds(NamedTuple):
    """Seconds that a unit took, by stage. load, wait, host: idle seconds of its device, see pipeline/scoring/idle.py."""

    read: float = 0.0
    decode: float = 0.0
    copy: float = 0.0
    score: float = 0.0
    load: float = 0.0
    wait: float = 0.0
    host: float = 0.0
    commit: float = 0.0

    def plus(self, other: "StageSeconds") -> "StageSeconds":
        return StageSeconds(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))


@dataclass(frozen=True, kw_only=True)
class Footer:
    """version: of schemas/commit.py.  slice: number of the plan slice.  number: of the unit or stream within the slice.
    part: 0, or the running number of the unit within its stream.  date: table partition.  scored, errors: rows of each kind.
    next_offset: where the stream continues, as its source counts; None where nothing is left.
    device, hardware, one_by_one: what scored, see schemas/scored_on.py.  scoring_version: of the code that scored.
    bytes_read: encoded bytes fetched for the unit.  ignored: members of the shard that are not images or were not asked for.
    """

    version: int = VERSION
    unit_id: str
    slice: int
    number: int
    part: int
    date: str
    scored: int
    errors: int
    next_offset: int | None
    device: str
    hardware: str = ""
    one_by_one: bool = False
    scoring_version: int
    bytes_read: int
    ignored: int
    seconds: StageSeconds

    @property
    def scored_on(self) -> ScoredOn:
        return ScoredOn(self.device, self.hardware, self.one_by_one)

    def texts(self) -> dict[str, str]:
        """The footer as it is written, by name."""
        texts = {name: str(entry) for name, entry in vars(self).items()}
        next_offset = END if self.next_offset is None else str(self.next_offset)
        return texts | {"next_offset": next_offset, "seconds": json.dumps(self.seconds._asdict())}

    @classmethod
    def parse(cls, texts: Mapping[str, str]) -> "Footer":
        """The footer of `texts`. Raises KeyError, TypeError, ValueError for anything else."""
        named = {field.name: texts[field.name] for field in fields(cls) if field.name not in LATER}
        scored_on = ScoredOn(named["device"], texts.get("hardware", ""), texts.get("one_by_one") == "True")
        return cls(
            version=int(named["version"]),
            unit_id=named["unit_id"],
            slice=int(named["slice"]),
            number=int(named["number"]),
            part=int(named["part"]),
            date=named["date"],
            scored=int(named["scored"]),
            errors=int(named["errors"]),
            next_offset=None if named["next_offset"] == END else int(named["next_offset"]),
            **scored_on._asdict(),
            scoring_version=int(named["scoring_version"]),
            bytes_read=int(named["bytes_read"]),
            ignored=int(named["ignored"]),
            seconds=StageSeconds(**json.loads(named["seconds"])),
        )
