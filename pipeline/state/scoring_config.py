"""What defines a scoring run: its input, model and rules. Hashes of it name units and runs."""

import hashlib

from pydantic import BaseModel, ConfigDict

from models.canonical_json import canonical_json
from models.explain.methods import Method
from pipeline.decode.config import DecodeConfig
from pipeline.input.config import SourceConfig
from schemas.plan import UnitContent

SCORING_VERSION = 5
"""Every change of code that changes a score, a map, an embedding or a region raises it; CHANGELOG names it."""

NOT_IN_ANY_ROW = {"read_threads"}
"""Source settings that change how fast a row is made, never what it holds."""

NOT_NAMED_UNLESS_SET = {"members", "follow_links"}
"""Source settings that were added later: runs that leave them out keep their old ids."""

LIMITS_OF_THE_MACHINE = {"max_decode_bytes"}
"""Decode settings that decide whether a machine can make a row, never its score; so does the decoder's time limit."""


ALL_ROWS = (0, -1)
"""Stands for the range of rows in the hash of a unit without one."""


class ScoringConfig(BaseModel):
    """Everything that decides which images are scored and what their rows hold. The same config is the same run.

    explain: how images with a region are explained; None explains none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    model_digest: str
    source: SourceConfig
    decode: DecodeConfig
    explain: Method | None = None

    def canonical(self) -> str:
        """Canonical JSON: sorted keys, no spaces."""
        unnamed = LIMITS_OF_THE_MACHINE | ({"scale"} if self.decode.resize != "tile" else set())
        unset = {name for name in NOT_NAMED_UNLESS_SET if not getattr(self.source, name)}
        exclude = {"source": NOT_IN_ANY_ROW | unset, "decode": unnamed} | ({"explain": True} if self.explain is None else {})
        settings = self.model_dump(mode="json", exclude=exclude)
        return canonical_json({"scoring_version": SCORING_VERSION, **settings})

    def run_id(self) -> str:
        """16 hex digits: the same for the same input, scoring digest, key rules and scoring settings."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()[:16]

    def unit_id(self, unit: UnitContent) -> str:
        """32 hex digits: hash of the unit's ordered (key, size, etag), its row range and this config."""
        content = {"objects": unit.objects, "rows": unit.rows or ALL_ROWS, "source": unit.source, "date": unit.date}
        return hashlib.sha256((self.canonical() + canonical_json(content)).encode()).hexdigest()[:32]


def part_id(unit_id: str, part: int, first_offset: int) -> str:
    """32 hex digits: id of the unit cut from a stream at `first_offset` (bytes); the stream's id pins the content."""
    return hashlib.sha256(f"{unit_id}:{part}:{first_offset}".encode()).hexdigest()[:32]
