"""Reads the members of a tar stream, each with its content or a fault; nothing is lost silently.

The standard library's tarfile parses headers. Its reader is not used: it takes a corrupt or cut header for the
end of the archive. An unreadable header is the end here too, since sizes chain the members, but it is reported.
Members may be tars themselves, so headers are never searched for.
"""

import contextlib
import re
import tarfile
from collections.abc import Callable, Iterator
from typing import NamedTuple

from pipeline.input.archives import archive_kind, unsupported
from pipeline.input.encoded_rows import Fault
from pipeline.input.faults import InputError
from pipeline.input.identity import MAX_NAME_BYTES, shortened
from pipeline.input.keys import ignored
from pipeline.input.pictures import FIRST_BYTES, begins_as_picture, named_as_picture
from pipeline.storage.compressed import CorruptStream
from pipeline.storage.forward import ForwardReader

BLOCK = tarfile.BLOCKSIZE
ZEROS = bytes(BLOCK)
MAX_EXTENDED_BYTES = 1 << 20  # limit of one extended header (long name, pax records)
MAX_SIZE = (1 << 63) - 1  # the most that a column of sizes holds
PAX_SIZE = re.compile(r"[0-9]{1,30}")
SCAN_BYTES = 1 << 20
PAX = {tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE}
EXTENDED = {*PAX, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK}
NO_CONTENT = {tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE}
VOLUME_LABEL = b"V"


class Member(NamedTuple):
    """offset: of the member's first header block.  name: None for a fault of the shard.  size: None when unknown.
    content: None for a member that is left out."""

    offset: int
    name: str | None
    size: int | None
    content: bytes | Fault | None


class Unreadable(InputError):
    """The stream cannot be read beyond this header."""

    def __init__(self, error: str, why: str):
        super().__init__(why)
        self.error = error


class Header(NamedTuple):
    name: str
    name_bytes: int
    size: int
    type: bytes
    sparse: bool


def members(
    reader: ForwardReader, start: int, max_member_bytes: int, wanted: Callable[[str], bool] = lambda name: True
) -> Iterator[Member]:
    """Members from byte `start` on, the offset of a header; the reader stands at 0.

    It leaves out sidecars, hidden names, names that are not `wanted`, and members that neither name nor first bytes show to be
    pictures. Links, devices and sparse files, archives, members over `max_member_bytes` (which are not read into memory) and
    overlong names (whose middle becomes its hash) get a fault. A fault that ends the stream early is the last member: with a
    name when a member is cut, else without. Directories are not members.
    """
    offset, header = start, None
    try:
        reader.skip(start)
        while header := _header(reader):
            if header.type not in (tarfile.DIRTYPE, VOLUME_LABEL):
                yield Member(offset, header.name, header.size, _content(reader, header, offset, max_member_bytes, wanted))
            offset, header = reader.position, None
        yield from _after_end(reader, offset)
    except (Unreadable, CorruptStream) as end:
        error = end.error if isinstance(end, Unreadable) else "corrupt_shard"
        name, size = (header.name, header.size) if header else (None, None)
        yield Member(offset, name, size, Fault(error, f"{end}; {_lost(reader, offset)}", offset))


def _content(
    reader: ForwardReader, header: Header, offset: int, max_member_bytes: int, wanted: Callable[[str], bool]
) -> bytes | Fault | None:
    """The member's bytes, its fault, or None to leave it out. Moves the reader to the next header."""
    size = 0 if header.type in NO_CONTENT else header.size
    plain = header.type in tarfile.REGULAR_TYPES and header.type not in NO_CONTENT and not header.sparse
    left_out, first = ignored(header.name) or not wanted(header.name), b""
    if not left_out and not named_as_picture(header.name) and archive_kind(header.name) is None:
        first = reader.read(min(size, FIRST_BYTES)) if plain else b""
        left_out = not begins_as_picture(first)
    fault = None if left_out else _fault(header, size, offset, plain, max_member_bytes)
    if fault or left_out:
        content, there = b"", len(first) + reader.skip(size - len(first))
    else:
        content = first + reader.read(size - len(first))
        there = len(content)
    if there < size:
        raise Unreadable("truncated", f"the shard ends {size - there} bytes before the end of member {header.name!r}")
    with contextlib.suppress(CorruptStream):  # the member is whole; the next read meets the damage again
        reader.skip(-size % BLOCK)
    return None if left_out else fault or content


def _fault(header: Header, size: int, offset: int, plain: bool, max_member_bytes: int) -> Fault | None:
    """Why a wanted member cannot be read."""
    if not plain:
        return Fault("unsupported", "the member is a link, device or sparse file, not a plain file", offset)
    if kind := archive_kind(header.name):
        return unsupported(header.name, kind, offset)
    if size > max_member_bytes:
        return Fault("too_large", f"the member has {size} bytes; the limit is {max_member_bytes}", offset)
    if header.name_bytes > MAX_NAME_BYTES:
        return Fault("too_large", f"the member's name has {header.name_bytes} bytes; the limit is {MAX_NAME_BYTES}", offset)
    return None


def _header(reader: ForwardReader) -> Header | None:
    """The next member's header, extended headers applied; None at a zero block. Raises Unreadable."""
    name: str | None = None
    pax: dict[str, str] = {}
    extended = False
    while True:
        block = reader.read(BLOCK)
        if not block and not extended:
            raise Unreadable("truncated", "the shard ends without the end-of-archive mark")
        if len(block) < BLOCK:
            raise Unreadable("truncated", "the shard ends within a header")
        if block == ZEROS and not extended:
            return None
        try:
            info = tarfile.TarInfo.frombuf(block, "utf-8", "backslashreplace")
        except tarfile.HeaderError as error:
            raise Unreadable("corrupt_header", f"the header is corrupt ({error})") from error
        if info.type not in EXTENDED:
            break
        extended = True
        body = _extended(reader, info.size)
        if info.type in PAX:
            pax = _pax(body)
        elif info.type == tarfile.GNUTYPE_LONGNAME:
            name = _text(body.split(b"\0", 1)[0])
    size = info.size
    if "size" in pax:
        if not PAX_SIZE.fullmatch(pax["size"]):
            raise Unreadable("corrupt_header", f"the header's size is {pax['size'][:40]!r}")
        size = int(pax["size"])
    if not 0 <= size <= MAX_SIZE:
        raise Unreadable("corrupt_header", f"the header's size is {size}")
    sparse = info.type == tarfile.GNUTYPE_SPARSE
    if sparse:
        _skip_sparse_map(reader, block)
    sparse = sparse or any(record.startswith("GNU.sparse.") for record in pax)
    name = pax.get("path") or name or info.name
    return Header(shortened(name), len(name.encode()), size, info.type, sparse)


def _extended(reader: ForwardReader, size: int) -> bytes:
    if not 0 <= size <= MAX_EXTENDED_BYTES:
        raise Unreadable("corrupt_header", f"an extended header of {size} bytes is not credible")
    padded = size + -size % BLOCK
    body = reader.read(padded)
    if len(body) < padded:
        raise Unreadable("truncated", "the shard ends within an extended header")
    return body[:size]


def _pax(body: bytes) -> dict[str, str]:
    """Records `length keyword=value\\n` of a pax header."""
    records: dict[str, str] = {}
    body, start = body.rstrip(b"\0"), 0
    while start < len(body):
        length, space, _ = body[start : start + 20].partition(b" ")
        end = start + (int(length) if length.isdigit() else 0)
        keyword, equals, value = body[start + len(length) + 1 : max(end - 1, start)].partition(b"=")
        if not (space and equals and body[end - 1 : end] == b"\n"):
            raise Unreadable("corrupt_header", "a pax record is malformed")
        records[_text(keyword)] = _text(value)
        start = end
    return records


def _skip_sparse_map(reader: ForwardReader, header: bytes) -> None:
    """Old GNU sparse files: extra blocks of the map follow while the flag says so (byte 482, then 504)."""
    more = header[482]
    while more:
        block = reader.read(BLOCK)
        if len(block) < BLOCK:
            raise Unreadable("truncated", "the shard ends within a header")
        more = block[504]


def _after_end(reader: ForwardReader, offset: int) -> Iterator[Member]:
    """A fault if anything but zeros follows the zero block at `offset`.

    One zero block at the very end passes: it cannot begin a member, so none is missing.
    """
    while piece := reader.read(SCAN_BYTES):
        if piece.count(0) < len(piece):
            at = reader.position - len(piece.lstrip(b"\0"))
            why = f"the archive ends at byte {offset}, but data follows it; {_lost(reader, at)}"
            yield Member(offset, None, None, Fault("data_after_end", why, at))
            return


def _lost(reader: ForwardReader, offset: int) -> str:
    if reader.size is None:
        return f"everything from byte {offset} (decompressed) on is lost"
    return f"the {reader.size - offset} bytes from byte {offset} on are lost"


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace")
