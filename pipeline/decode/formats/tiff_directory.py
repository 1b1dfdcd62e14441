"""The directories of a TIFF file: which picture is where, and of what kind."""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from pipeline.decode.faults import Undecodable

MOST_DIRECTORIES = 4096
REDUCED, OLD_REDUCED = 1, 2  # bit of NewSubfileType, value of SubfileType
TAGS = {  # tags whose first number is used, with their defaults
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
LISTS = (DEPTHS, FORMATS, EXTRA, SUBDIRECTORIES, SUBSAMPLING, JPEG_TABLES, *STARTS, *LENGTHS)
WANTED = {tag for tag, _ in TAGS.values()} | set(LISTS)
WHOLE_NUMBERS = {1: "B", 3: "H", 4: "I", 7: "B", 13: "I", 16: "Q", 18: "Q"}  # by type; 13 and 18 are offsets of directories
ALPHA = {1, 2}


class Header(NamedTuple):
    """order: as struct writes it.  big: whether it is a BigTIFF.  start: the file's bytes before the first offset."""

    order: str
    big: bool
    start: bytes

    @property
    def offset_code(self) -> str:
        return self.order + ("Q" if self.big else "I")


class Directory(NamedTuple):
    """values: whole numbers by tag.  offset: where it stands in the file, bytes."""

    values: dict[int, tuple[int, ...]]
    offset: int
    following: int
    header: Header

    def number(self, name: str) -> int:
        tag, default = TAGS[name]
        return (*self.values.get(tag, ()), default)[0]

    def leading_to_it(self, encoded: bytes) -> bytes:
        """The file, its header leading to this directory."""
        header = self.header.start + struct.pack(self.header.offset_code, self.offset)
        return header + encoded[len(header) :]

    @property
    def big_endian(self) -> bool:
        return self.header.order == ">"

    @property
    def pixels(self) -> int:
        return self.number("width") * self.number("height")

    @property
    def reduced(self) -> bool:
        """Whether the directory says that its picture is a smaller copy of another one in the file."""
        return bool(self.number("new_subfile") & REDUCED) or self.number("old_subfile") == OLD_REDUCED

    @property
    def depths(self) -> set[int]:
        return set(self.values.get(DEPTHS, ())) or {1}

    @property
    def formats(self) -> set[int]:
        return set(self.values.get(FORMATS, ())) or {1}

    @property
    def alpha(self) -> bool:
        return bool(ALPHA & {*self.values.get(EXTRA, ())})

    @property
    def subsampling(self) -> tuple[int, ...]:
        return self.values.get(SUBSAMPLING, (2, 2))

    def jpeg_streams(self, encoded: bytes) -> Iterator[bytes]:
        """The JPEGs of its strips or tiles, each with the tables that they share."""
        tables = bytes(self.values.get(JPEG_TABLES, ()))
        for starts, lengths in zip(STARTS, LENGTHS, strict=True):
            for start, length in zip(self.values.get(starts, ()), self.values.get(lengths, ()), strict=False):
                stream = encoded[start : start + length]
                shared = len(tables) > 4 and stream[:2] == b"\xff\xd8"
                yield tables[:-2] + stream[2:] if shared else stream


def chain(encoded: bytes) -> Iterator[Directory]:
    """The chain of directories. Raises Undecodable (corrupt) when one of them cannot be read."""
    order = "<" if encoded[:1] == b"I" else ">"
    big = struct.unpack_from(order + "H", encoded, 2)[0] == 43
    header = Header(order, big, encoded[: 8 if big else 4])
    at = len(header.start)
    offset = struct.unpack_from(header.offset_code, encoded, at)[0] if at + (8 if big else 4) <= len(encoded) else 0
    seen: set[int] = set()
    while offset and offset not in seen and len(seen) < MOST_DIRECTORIES:
        seen.add(offset)
        directory = _directory(encoded, offset, header)
        if directory is None:
            raise Undecodable("corrupt", f"the TIFF is damaged: there is no picture in its directory {len(seen)}")
        yield directory
        offset = directory.following
    if not seen:
        raise Undecodable("corrupt", "the TIFF is damaged: it has no directory")


def inner(encoded: bytes, of: Directory) -> Iterator[Directory]:
    """Its SubIFDs; one that cannot be read is left out."""
    for offset in of.values.get(SUBDIRECTORIES, ())[:MOST_DIRECTORIES]:
        directory = _directory(encoded, offset, of.header)
        if directory is not None:
            yield directory


def _directory(encoded: bytes, offset: int, header: Header) -> Directory | None:
    """None where the file has no directory of a picture at the offset."""
    order, big = header.order, header.big
    counting, entry = struct.Struct(order + ("Q" if big else "H")), struct.Struct(order + ("HHQ8s" if big else "HHI4s"))
    if offset + counting.size > len(encoded):
        return None
    (count,) = counting.unpack_from(encoded, offset)
    at = offset + counting.size
    if at + count * entry.size > len(encoded):
        return None
    values: dict[int, tuple[int, ...]] = {}
    for tag, kind, length, field in entry.iter_unpack(encoded[at : at + count * entry.size]):
        if tag not in WANTED or tag in values or kind not in WHOLE_NUMBERS:
            continue
        size = struct.calcsize(WHOLE_NUMBERS[kind]) * length
        start = struct.unpack(header.offset_code, field)[0] if size > len(field) else 0
        source = field if size <= len(field) else encoded
        if start + size <= len(source):
            values[tag] = struct.unpack_from(f"{order}{length}{WHOLE_NUMBERS[kind]}", source, start)
    end = at + count * entry.size
    linked = end + struct.calcsize(header.offset_code) <= len(encoded)
    following = struct.unpack_from(header.offset_code, encoded, end)[0] if linked else 0
    found = Directory(values, offset, following, header)
    return found if found.pixels > 0 and any(values.get(tag) for tag in STARTS) else None
