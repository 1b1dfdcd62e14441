"""Settings of every source: where the input is, how it is cut into units and how its images are named."""

from dataclasses import dataclass, field
from typing import Self

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from pipeline.input.identity import Mode
from pipeline.input.keys import is_null, key_pattern
from pipeline.input.names import NameFilter, name_filter
from pipeline.storage.objects import Object
from schemas.plan import DatedObject

NO_DATE = "none"
LOOSE = "files"
"""The source of loose images: every other one reads shards."""
MAX_DATE_BYTES = 64
"""Limit of a production day: percent-encoded it names a folder, and such a name has at most 255 bytes."""
MIB = 1 << 20


class SourceOptions(BaseModel):
    """How the images of any input are found, cut into units and named."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key_pattern: str | None = Field(None, description="key columns in the path: {line}/{date}/{lot}/{name}")
    date: str | None = Field(None, description="production day, such as 2024-06-03, of images whose path has none")
    image_id: Mode = Field("uri", description="what names an image: its uri, or its key below an input that moves")
    input_name: str | None = Field(
        None, pattern=r"^[A-Za-z0-9._-]{1,64}$", description="name of the input, with --image-id key: each input has its own"
    )
    unit_images: int = Field(128, ge=1, le=1000, description="maximum images in a work unit")
    unit_bytes: int = Field(64 * MIB, ge=1, description="maximum bytes in a work unit, unless one image is larger")
    image_column: str | None = Field(None, description="Parquet column that holds the images; default: the only binary one")
    id_column: str | None = Field(None, description="Parquet column that names the images; default: the row's number")
    max_member_bytes: int = Field(256 * MIB, ge=1, description="maximum bytes of one image; larger ones go to `errors`")
    max_parse_bytes: int = Field(
        4 << 30, ge=256 * MIB, description="memory of the process that parses Parquet; rows that take more go to `errors`"
    )
    read_threads: int = Field(16, ge=1, le=256, description="requests that a read task makes at once")
    members: str | None = Field(
        None, description="names of the images to read, such as '*.jpg' or '*.jpg,*.jpeg': loose files and members of tars"
    )
    follow_links: bool = Field(False, description="follow symbolic links, also out of the input's folder")

    @model_validator(mode="after")
    def _named(self) -> Self:
        if (self.image_id == "key") != (self.input_name is not None):
            raise ValueError(
                f"input_name must be given with image_id key, and only then; got image_id {self.image_id}, "
                f"input_name {self.input_name!r}. Name each input, and keep its name when it moves."
            )
        return self

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
            raise ValueError(f"date must be a day; got {date!r}, which means none. Leave it out.")
        return date

    def day(self, key: str, shard: bool, first: str | None = None) -> str:
        """Production day of an object: the day that it was planned under `first`, else the pattern's `{date}`, else the
        configured date, else `none`. Its rows lie under the first day, also after a rekey.

        A `{date}` longer than MAX_DATE_BYTES, or Hive's null, does not count. A shard's date is read from its own path only.
        """
        found = None
        if self.key_pattern:
            pattern = key_pattern(self.key_pattern)
            found = pattern.shard_date(key) if shard else (pattern.match(key) or {}).get("date")
        is_day = found and len(found.encode()) <= MAX_DATE_BYTES and not is_null(found)
        return first or (found if found and is_day else self.date or NO_DATE)

    def keys(self, key: str, member: str | None = None) -> dict[str, str]:
        """Fields of the pattern by name: read from the key; in a shard from `key/member`, else from the key alone.

        Empty when nothing fits; leaves out fields whose value is Hive's null.
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
    """An input with its reading options."""

    input_uri: str

    @property
    def identity_base(self) -> str:
        """What stands before a key to name its object for good: the input's URI, or its name where it may move."""
        return f"{self.input_uri}/" if self.input_name is None else f"key://{self.input_name}/"

    def identity(self, uri: str) -> str:
        """The identity of the object at a URI below this input."""
        return self.identity_base + uri.removeprefix(f"{self.input_uri}/")

    def dated(self, entry: Object, source: str, first: str | None = None) -> DatedObject:
        """A listed object with its production day; see `day`."""
        return DatedObject(entry.key, entry.size, entry.etag, self.day(entry.key, source != LOOSE, first))


@dataclass(frozen=True)
class Start:
    """Where to continue in a stream.

    offset: `next_offset` of the last finished part.  part: number of the next part.
    seen: how often each member name occurred in earlier parts.
    """

    offset: int = 0
    part: int = 0
    seen: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Part:
    """The images of exactly one unit.

    table: schemas/encoded.py.  next_offset: where the next part starts; None at the end.  bytes_read: fetched for it.
    ignored: number of members that are not images or that `members` does not select.
    """

    table: pa.Table
    next_offset: int | None
    bytes_read: int
    ignored: int = 0
