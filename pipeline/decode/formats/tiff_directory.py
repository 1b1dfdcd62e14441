"""The directories of a TIFF file, as far as they say which picture is where and of what kind."""

import struct
from collections.abc import Iterator
from io import BytesIO
from typing import NamedTuple

from PIL.TiffImagePlugin import ImageFileDirectory_v2

from pipeline.decode.faults import FAULTS, Undecodable, damaged

MOST_DIRECTORIES = 4096
REDUCED, OLD_REDUCED = 1, 2  # bit of NewSubfileType, value of SubfileType
TAGS = {  # of which the first number is asked for, with their defaults
    "width": (256, 0),
    "height": (257, 0),
    "compression": (259, 1),
    "photometric": (262, -1),
    "orientation": (274, 1),
    "samples": (277, 1),
    "planar": (284, 1),
    "new_subfile": (254, 0),
    "old_subfile": (255, 0),
}
DEPTHS, FORMATS, EXTRA, SUBDIRECTORIES, SUBSAMPLING, JPEG_TABLES = 258, 339, 338, 330, 530, 347
STARTS, LENGTHS = (273, 324), (279, 325)  # of strips, of tiles
ALPHA = {1, 2}


class Directory(NamedTuple):
    """offset: where it stands in the file, bytes.  prefix: the file's first bytes, up to the offset in its header."""

    tags: ImageFileDirectory_v2
    offset: int
    prefix: bytes

    def number(self, name: str) -> int:
        tag, default = TAGS[name]
        return (*self.numbers(tag), default)[0]

    def numbers(self, tag: int) -> tuple[int, ...]:
        found = self.tags.get(tag, ())
        return tuple(int(one) for one in (found if isinstance(found, tuple) else (found,)))

    @property
    def big_endian(self) -> bool:
        return self.prefix[:1] == b"M"

    @property
    def header_bytes(self) -> int:
        return 2 * len(self.prefix)

    def header(self) -> bytes:
        """A header of the file that leads to this directory."""
        order, size = ">" if self.big_endian else "<", "Q" if len(self.prefix) == 8 else "I"
        return self.prefix + struct.pack(order + size, self.offset)

    @property
    def pixels(self) -> int:
        return self.number("width") * self.number("height")

    @property
    def reduced(self) -> bool:
        """Whether it says that its picture is a smaller copy of another one in the file."""
        return bool(self.number("new_subfile") & REDUCED) or self.number("old_subfile") == OLD_REDUCED

    @property
    def samples(self) -> int:
        return self.number("samples")

    @property
    def orientation(self) -> int:
        return self.number("orientation")

    @property
    def depths(self) -> set[int]:
        return set(self.numbers(DEPTHS)) or {1}

    @property
    def formats(self) -> set[int]:
        return set(self.numbers(FORMATS)) or {1}

    @property
    def alpha(self) -> bool:
        return bool(ALPHA & {*self.numbers(EXTRA)})

    @property
    def subsampling(self) -> tuple[int, ...]:
        return self.numbers(SUBSAMPLING) or (2, 2)

    def jpeg_streams(self, encoded: bytes) -> Iterator[bytes]:
        """The JPEGs that its strips or tiles are, each with the tables that they share."""
        tables = self.tags.get(JPEG_TABLES)
        for starts, lengths in zip(STARTS, LENGTHS, strict=True):
            for start, length in zip(self.numbers(starts), self.numbers(lengths), strict=False):
                stream = encoded[start : start + length]
                shared = isinstance(tables, bytes) and len(tables) > 4 and stream[:2] == b"\xff\xd8"
                yield tables[:-2] + stream[2:] if shared else stream


def chain(encoded: bytes) -> Iterator[Directory]:
    """The directories that follow each other. Raises Undecodable where one of them cannot be."""
    big = encoded[2:4] in (b"+\0", b"\0+")
    prefix = encoded[: 8 if big else 4]
    try:
        offset = ImageFileDirectory_v2(encoded[: 16 if big else 8]).next
    except FAULTS as error:
        raise damaged("TIFF", error) from error
    seen: set[int] = set()
    while offset and offset not in seen and len(seen) < MOST_DIRECTORIES:
        seen.add(offset)
        directory = _directory(encoded, offset, prefix)
        if directory is None:
            raise Undecodable("corrupt", f"the TIFF is damaged: there is no picture in its directory {len(seen)}")
        yield directory
        offset = directory.tags.next
    if not seen:
        raise Undecodable("corrupt", "the TIFF is damaged: it has no directory")


def inner(encoded: bytes, of: Directory) -> Iterator[Directory]:
    """Its SubIFDs; one that cannot be read is left out."""
    for offset in of.numbers(SUBDIRECTORIES)[:MOST_DIRECTORIES]:
        directory = _directory(encoded, offset, of.prefix)
        if directory is not None:
            yield directory


def _directory(encoded: bytes, offset: int, prefix: bytes) -> Directory | None:
    tags = ImageFileDirectory_v2(prefix + bytes(len(prefix)))
    tags.next = 0  # what it keeps when its end is missing
    content = BytesIO(encoded)
    try:
        content.seek(offset)
        tags.load(content)
        found = Directory(tags, offset, prefix)
        stored = any(found.numbers(tag) for tag in STARTS)
        return found if found.number("width") > 0 and found.number("height") > 0 and stored else None
    except FAULTS:
        return None
