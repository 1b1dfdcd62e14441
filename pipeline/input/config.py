"""What every source is told: where the input is, how it is cut into units and how its images are named."""

from dataclasses import dataclass, field

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, field_validator

from pipeline.input.identity import Mode
from pipeline.input.keys import is_null, key_pattern
from pipeline.input.names import NameFilter, name_filter

NO_DATE = "none"
MAX_DATE_BYTES = 64
"""Of a production day: it becomes the name of a folder, percent-encoded, and such names have at most 255 bytes."""
MIB = 1 << 20


class SourceOptions(BaseModel):
    """How the images of any input are found, cut into units and named."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key_pattern: str | None = Field(None, description="key columns in the path: {line}/{date}/{lot}/{name}")
    date: str | None = Field(None, description="production day of images whose path has none")
    image_id: Mode = Field("uri", description="what names an image")
    unit_images: int = Field(128, ge=1, le=1000, description="images of a work unit at most")
    unit_bytes: int = Field(64 * MIB, ge=1, description="bytes of a work unit at most, unless one image is larger")
    image_column: str | None = Field(None, description="Parquet column that holds the images; default: the only binary one")
    id_column: str | None = Field(None, description="Parquet column that names the images; default: the row's number")
    max_member_bytes: int = Field(256 * MIB, ge=1, description="bytes of one image at most; larger ones are in `errors`")
    read_threads: int = Field(16, ge=1, le=256, description="requests that a read task has under way at once")
    members: str | None = Field(
        None, description="names of the images to read, such as '*.jpg' or '*.jpg,*.jpeg': loose files and members of tars"
    )
    follow_links: bool = Field(False, description="read what symbolic links lead to, also outside the input's folder")

    def at(self, input_uri: str) -> "SourceConfig":
        """The same options for an input."""
        return SourceConfig.model_validate({**self.model_dump(), "input_uri": input_uri})

    @field_validator("key_pattern")
    @classmethod
    def _readable(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            key_pattern(pattern)
        return pattern

    @field_validator("members")
    @classmethod
    def _some(cls, members: str | None) -> str | None:
        if members is not None:
            NameFilter(members)
        return members

    @field_validator("date")
    @classmethod
    def _short(cls, date: str | None) -> str | None:
        if date is not None and len(date.encode()) > MAX_DATE_BYTES:
            raise ValueError(f"date must have at most {MAX_DATE_BYTES} bytes; got {date!r}. Shorten it.")
        if date is not None and is_null(date):
            raise ValueError(f"date must be a day; got {date!r}, which stands for none. Leave it out.")
        return date

    def object_date(self, key: str) -> str:
        """Production day of a loose image: the pattern's `{date}`, else (also when that is no day: longer than
        MAX_DATE_BYTES, or Hive's null) the configured date, else `none`."""
        found = key_pattern(self.key_pattern).match(key) if self.key_pattern else None
        return self._date((found or {}).get("date"))

    def shard_date(self, key: str) -> str:
        """Production day of a shard: as for a loose image, from the shard's own path only."""
        found = key_pattern(self.key_pattern).shard_date(key) if self.key_pattern else None
        return self._date(found)

    def _date(self, found: str | None) -> str:
        is_day = found and len(found.encode()) <= MAX_DATE_BYTES and not is_null(found)
        return found if found and is_day else self.date or NO_DATE

    def keys(self, key: str, member: str | None = None) -> dict[str, str]:
        """Fields of the pattern by name: read from the key, in a shard from `key/member`, else from the key alone.

        Empty when nothing fits; without those whose value is Hive's null.
        """
        if self.key_pattern is None:
            return {}
        pattern = key_pattern(self.key_pattern)
        joined = pattern.match(f"{key}/{member}") if member is not None else None
        found = joined or pattern.match(key) or {}
        return {name: value for name, value in found.items() if not is_null(value)}

    def wants(self, name: str) -> bool:
        """Whether `members` takes an image of this name: its key below the input, or its path in a tar."""
        return self.members is None or name_filter(self.members).takes(name)


class SourceConfig(SourceOptions):
    """An input with the options that it is read with."""

    input_uri: str


@dataclass(frozen=True)
class Start:
    """Where to go on in a stream.

    offset: as given by the last finished part (`next_offset`).  part: number of the part that comes next.
    seen: how often each member name came in the parts before.
    """

    offset: int = 0
    part: int = 0
    seen: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Part:
    """The images of exactly one unit.

    table: schemas/encoded.py.  next_offset: where the next part starts; None at the end.  bytes_read: fetched for it.
    ignored: how many members were met that are no images or that `members` does not take.
    """

    table: pa.Table
    next_offset: int | None
    bytes_read: int
    ignored: int = 0
