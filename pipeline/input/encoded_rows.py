"""Builds the rows of schemas/encoded.py that every source returns."""

from typing import NamedTuple

import pyarrow as pa

from pipeline.input.config import SourceConfig
from pipeline.input.identity import canonical_uri, content_hash, image_id
from schemas import encoded as schema

COLUMNS_OF_THEIR_OWN = ("date", "lot")  # fields of the key pattern that are not key columns


class Fault(NamedTuple):
    """Why an image could not be read: reason code, one sentence, offset within the object in bytes."""

    error: str
    message: str
    byte_offset: int | None = None


class EncodedRows:
    """Collects the rows of one unit; `table` returns them and starts the next unit.

    count: rows collected.  encoded_bytes: sum of their encoded sizes, bytes.
    """

    def __init__(self, store_uri: str, config: SourceConfig):
        self._store_uri, self._config = store_uri, config
        named = config.input_name is not None
        self._identity_base = config.identity_base if named else canonical_uri(store_uri, "")
        self._rows: list[dict[str, object]] = []
        self.encoded_bytes = 0

    @property
    def count(self) -> int:
        return len(self._rows)

    def full_before(self, content: bytes | Fault) -> bool:
        """Whether the unit must end before this image; an empty unit never must."""
        more = 0 if isinstance(content, Fault) else len(content)
        full = self.count == self._config.unit_images or self.encoded_bytes + more > self._config.unit_bytes
        return self.count > 0 and full

    def add(self, key: str, content: bytes | Fault, size: int | None, member: str | None = None, ordinal: int = 0) -> None:
        """Append one image, or why it could not be read.

        Args:
            key: object key below the input.
            size: encoded size in bytes; for an unread image too, when known.
            member, ordinal: see `identity.image_id`.
        """
        fault, encoded = (content, None) if isinstance(content, Fault) else (None, content)
        digest = None if encoded is None else content_hash(encoded)
        keys = self._config.keys(key, None if member is None else member.removeprefix("./"))
        row = {
            "position": len(self._rows),
            "image_id": image_id(self._identity_base + key, member, ordinal),
            "uri": canonical_uri(self._store_uri, key),
            "member": member,
            "key": key if member is None else f"{key}/{member}",
            "keys": [(name, text) for name, text in keys.items() if name not in COLUMNS_OF_THEIR_OWN],
            "lot": keys.get("lot"),
            "content_hash": digest,
            "bytes": size,
            "encoded": encoded,
            "stage": "read" if fault else None,
            "error": fault.error if fault else None,
            "message": fault.message if fault else None,
            "byte_offset": fault.byte_offset if fault else None,
        }
        self._rows.append(row)
        self.encoded_bytes += len(encoded or b"")

    def table(self) -> pa.Table:
        """The rows collected since the last call, in order; may be empty."""
        columns = [pa.array([row[field.name] for row in self._rows], field.type) for field in schema.SCHEMA]
        self._rows, self.encoded_bytes = [], 0
        return pa.Table.from_arrays(columns, schema=schema.SCHEMA)
