"""Stable names of images: the same image has the same id in every run, with every model, from every machine."""

import hashlib
from typing import Literal

Mode = Literal["uri", "key"]
MAX_NAME_BYTES = 4096  # the longest path that Linux opens; rows hold a name four times
NAME_ENDS = 200  # characters kept of each end of a longer name


def canonical_uri(base: str, key: str) -> str:
    """`base` is a store's `uri` (`s3://bucket/prefix`, `file:///path`; no endpoint); the key stays as it is."""
    return f"{base}/{key}"


def image_id(uri: str, member: str | None = None, ordinal: int = 0) -> str:
    """32 hex digits: the first 128 bits of SHA-256 over (uri) or, in a shard, (uri, member, ordinal).

    Args:
        uri: canonical URI of the object, or `key://<input name>/<key>` in mode `key`.
        member: name within the shard; None for a loose file.
        ordinal: number of earlier members with the same name.
    Each text is preceded by its length in bytes and a colon, so that no two lists give the same hash input.
    """
    parts = [uri] if member is None else [uri, member, str(ordinal)]
    encoded = [part.encode() for part in parts]
    return hashlib.sha256(b"".join(b"%d:%b" % (len(part), part) for part in encoded)).hexdigest()[:32]


def content_hash(encoded: bytes) -> str:
    """32 hex digits: the first 128 bits of SHA-256 of the encoded bytes."""
    return hashlib.sha256(encoded).hexdigest()[:32]


def shortened(name: str) -> str:
    """The name of a member or row; of one above MAX_NAME_BYTES its two ends with a hash between them."""
    if len(name.encode()) <= MAX_NAME_BYTES:
        return name
    return f"{name[:NAME_ENDS]}...{content_hash(name.encode())}...{name[-NAME_ENDS:]}"
