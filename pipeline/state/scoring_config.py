"""What the scores of a unit depend on: its input, model and rules. A hash of it names the unit."""

import hashlib

from pydantic import BaseModel, ConfigDict

from models.canonical_json import canonical_json
from models.explain.methods import Method
from pipeline.decode.config import DecodeConfig
from pipeline.input.config import SourceConfig
from schemas.plan import UnitContent

SCORING_VERSION = 6
"""Every change of code that changes a score, a map, an embedding or a region raises it; CHANGELOG names it."""

NOT_IN_ANY_ROW = {"read_threads", "max_parse_bytes"}
"""Source settings that change how fast a row is made, or whether a machine can make it, never what it holds."""

IN_THE_MODEL = {"roi"}
"""Decode settings that are part of the model, so that its digest names them; they are long, and hashed for every unit."""

LIMITS_OF_THE_MACHINE = {"max_decode_bytes"}
"""Decode settings that decide whether a machine can make a row, never its score; so does the decoder's time limit."""


ALL_ROWS = (0, -1)
"""Stands for the range of rows in the hash of a unit without one."""


class ScoringConfig(BaseModel):
    """Everything that decides which images are scored and what their rows hold.

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
        unnamed = LIMITS_OF_THE_MACHINE | IN_THE_MODEL | ({"scale"} if self.decode.resize != "tile" else set())
        unnamed |= {"decoder"} if self.decode.decoder == "cpu" else set()  # what was scored before there was another
        exclude = {"source": NOT_IN_ANY_ROW, "decode": unnamed} | ({"explain": True} if self.explain is None else {})
        settings = self.model_dump(mode="json", exclude=exclude)
        return canonical_json({"scoring_version": SCORING_VERSION, **settings})

    def unit_id(self, unit: UnitContent, slice_number: int) -> str:
        """32 hex digits: hash of the unit's ordered (key, size, etag), its row range, its slice and this config.

        The slice is in it because an object that could not be read may be planned again unchanged.
        """
        content = {"objects": unit.objects, "rows": unit.rows or ALL_ROWS, "source": unit.source, "slice": slice_number}
        return hashlib.sha256((self.canonical() + canonical_json(content)).encode()).hexdigest()[:32]


def part_id(unit_id: str, part: int, first_offset: int) -> str:
    """32 hex digits: id of the unit cut from a stream at `first_offset` (bytes); the stream's id pins the content."""
    return hashlib.sha256(f"{unit_id}:{part}:{first_offset}".encode()).hexdigest()[:32]
