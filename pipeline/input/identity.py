"""Stable names of images: the same image has the same id in every run, with every model, from every machine."""

import hashlib
from typing import Literal

Mode = Literal["uri", "key", "content"]


def canonical_uri(base: str, key: str) -> str:
    """`base` is a store's `uri` (`s3://bucket/prefix`, `file:///path`; no endpoint); the key stays as it is."""
    return f"{base}/{key}"


def image_id(uri: str, member: str | None = None, ordinal: int = 0) -> str:
    """32 hex digits: the first 128 bits of SHA-256 over (uri) or, in a shard, (uri, member, ordinal).

    Args:
        uri: canonical URI of the object, or its key below the input in mode `key`.
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


def identify(mode: Mode, base: str, key: str, member: str | None, ordinal: int, content: str | None) -> str:
    """The `image_id` of one image by the configured mode.

    `uri` (default) follows the object's full URI; `key` the path below the input, for mounts and buckets that move;
    `content` the bytes (their `content_hash`), so that equal pictures are one image. An image that could
    not be read has no content and is named by its URI.
    """
    if mode == "content" and content is not None:
        return content
    return image_id(key if mode == "key" else canonical_uri(base, key), member, ordinal)
