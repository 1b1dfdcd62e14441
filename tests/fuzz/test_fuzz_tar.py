"""A damaged tar gives the members before the damage unchanged, and says where it ends; it is never silently shorter."""

import gzip
import io
import os
import random
import re
import tarfile
import zlib
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st
from memory_store import MemoryStore
from mutations import fuzz, mutated
from plan_units import plan_units

from pipeline.input.config import Part, SourceConfig, Start
from pipeline.input.encoded_rows import Fault
from pipeline.input.keys import ignored
from pipeline.input.tar_members import BLOCK, Member, members
from pipeline.sources import tar
from pipeline.storage.forward import ForwardReader

LIMIT = 5000  # max_member_bytes
ENDS_EARLY = {"corrupt_header", "corrupt_shard", "truncated", "data_after_end"}
ERRORS = ENDS_EARLY | {"unsupported", "too_large", "unsupported_archive"}
FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


class Archive(NamedTuple):
    """A valid tar, its members, and the end of each member's content."""

    content: bytes
    images: list[tuple[str, bytes]]
    ends: list[int]


def archive(form: str, sizes: list[int], gaps: bool) -> Archive:
    """gaps: put members that are not images between the images."""
    sink, images, ends = io.BytesIO(), [], []
    with tarfile.open(fileobj=sink, mode="w", format=FORMATS[form]) as out:

        def add(name: str, body: bytes, kind: bytes = tarfile.REGTYPE, **fields: object) -> None:
            info = tarfile.TarInfo(name)
            info.size, info.type = len(body), kind
            for field, setting in fields.items():
                setattr(info, field, setting)
            out.addfile(info, io.BytesIO(body))

        for number, size in enumerate(sizes):
            name = f"{number}.jpg" if number % 3 or form == "ustar" else f"{'long/' * 40}ü{number}.jpg"
            body = bytes([number + 1]) * size if number % 2 else random.Random(number).randbytes(size)
            if gaps and number % 2:
                add("folder", b"", tarfile.DIRTYPE)
                add(f"{number}.json", b"{}" * 400)
            records = {"comment": "x" * 700} if number == 1 else {"size": str(size)} if number == 4 else {}
            add(name, body, **({"pax_headers": records} if form == "pax" else {}))
            images.append((name, body))
            ends.append(sink.tell() - -size % BLOCK)
    return Archive(sink.getvalue(), images, ends)


ARCHIVES = [
    archive(form, sizes, gaps)
    for form in FORMATS
    for sizes, gaps in (([700, 0, 1, 512, 1300], False), ([3, 600, 2000, 40], True), ([900], False))
]
CONTENTS = [each.content for each in ARCHIVES]
FIELDS = (0, 100, 124, 124, 124, 148, 156, 156, 257, 345, 482, 512, 536, 540)  # offsets in a header and in the block after it


def marks(content: bytes) -> list[int]:
    return [found.start() - 257 + field for found in re.finditer(b"ustar", content) if found.start() >= 257 for field in FIELDS]


shards = st.sampled_from(ARCHIVES).flatmap(
    lambda whole: st.tuples(
        st.just(whole), mutated([whole.content], marks=marks) | mutated([whole.content, *CONTENTS], 2, marks)
    )
)


def repaired(content: bytes) -> bytes:
    """The tar with correct checksums in all blocks that look like headers, so that the reader reaches damage elsewhere."""
    blocks = bytearray(content)
    for start in range(0, len(blocks) - BLOCK + 1, BLOCK):
        if blocks[start + 257 : start + 262] == b"ustar":
            blocks[start + 148 : start + 156] = b" " * 8
            blocks[start + 148 : start + 156] = b"%06o\0 " % sum(blocks[start : start + BLOCK])
    return bytes(blocks)


def read_members(content: bytes, gz: bool = False, piece_bytes: int = 1 << 20) -> tuple[list[Member], MemoryStore]:
    store = MemoryStore("s.tar", content, piece_bytes)
    reader = ForwardReader(store, "s.tar", "etag", len(content), "gzip" if gz else None)
    return list(members(reader, 0, LIMIT)), store


def check(found: list[Member], content: bytes) -> None:
    """Check what must hold for the members of any bytes."""
    end = 0
    for number, member in enumerate(found):
        last = number == len(found) - 1
        assert end <= member.offset <= len(content)
        if isinstance(member.content, bytes):
            assert member.size == len(member.content) <= LIMIT and not ignored(str(member.name))
            assert member.content in content[member.offset + BLOCK :]
            end = member.offset + BLOCK + member.size
        elif member.content is None:
            end = member.offset + BLOCK
        else:
            assert member.content.error in ERRORS and member.content.message
            assert member.content.byte_offset is not None and 0 <= member.content.byte_offset <= len(content)
            assert last or member.content.error not in ENDS_EARLY
            end = member.offset + BLOCK
    if not (found and ends_early(found[-1])):  # only zeros are left unread
        assert content[end:].rstrip(b"\0") != content[end:] and len(content) - len(content.rstrip(b"\0")) >= BLOCK


def ends_early(member: Member) -> bool:
    return isinstance(member.content, Fault) and member.content.error in ENDS_EARLY


def kept(found: list[Member]) -> list[Member]:
    return [member for member in found if member.content is not None]


@fuzz(200)
@given(shards, st.booleans(), st.sampled_from([1, 97, 512, 1 << 20]))
def test_members_of_a_damaged_tar(shard, repair, piece_bytes):
    whole, content = shard
    content = repaired(content) if repair else content
    found, store = read_members(content, piece_bytes=piece_bytes)
    check(found, content)
    assert store.fetched <= len(content) + len(found) * piece_bytes + (1 << 10)
    damage = len(os.path.commonprefix([content, whole.content]))
    intact = sum(end <= damage for end in whole.ends)
    assert [(m.name, m.content) for m in kept(found)[:intact]] == whole.images[:intact]


@fuzz(100)
@given(
    st.sampled_from([each for each in ARCHIVES if b"long/" not in each.content]), st.integers(0, 1 << 16), st.integers(1, 255)
)
def test_one_wrong_byte_never_makes_a_tar_silently_shorter(whole, at, wrong):
    content = bytearray(whole.content)
    content[at % len(content)] ^= wrong
    found, _ = read_members(bytes(content))
    assert len(found) >= len(whole.images) or ends_early(found[-1])


@fuzz(100)
@given(st.sampled_from(ARCHIVES), st.data())
def test_members_of_a_damaged_tar_gz(whole, data):
    outside = data.draw(st.booleans())
    packed = [gzip.compress(whole.content, level, mtime=0) for level in (0, 9)]
    content = (
        data.draw(mutated(packed)) if outside else gzip.compress(data.draw(mutated([whole.content], marks=marks)), mtime=0)
    )
    found, _ = read_members(content, gz=True, piece_bytes=data.draw(st.sampled_from([1, 50, 1 << 20])))
    plain, intact = inflated(content)
    check(found, plain if intact else plain + bytes(BLOCK))
    for wanted, member in zip(read_members(plain)[0], found, strict=False):
        if isinstance(wanted.content, bytes):
            assert member == wanted
    if not intact:
        assert ends_early(found[-1])


def inflated(content: bytes) -> tuple[bytes, bool]:
    """All that can be decompressed, byte by byte, and whether that is the whole content."""
    body, inflate = bytearray(), zlib.decompressobj(31)
    try:
        for at in range(len(content)):
            if inflate.eof and content[at]:
                inflate = zlib.decompressobj(31)
            if not inflate.eof:
                body += inflate.decompress(content[at : at + 1])
    except zlib.error:
        return bytes(body), False
    return bytes(body), inflate.eof or not content


VALUES = [
    "",
    "0",
    "1",
    "700",
    "-1",
    "٣",
    "1e3",
    "9" * 18,
    "9" * 30,
    "9" * 5000,
    "x.jpg",
    "a\0b.jpg",
    ".hidden",
    "d/",
    "é" * 300,
]
KEYWORDS = ["path", "size", "linkpath", "comment", "GNU.sparse.map", "GNU.sparse.realsize", "hdrcharset", "", "a b"]
SIZES = [
    b"0",
    b"1",
    b"1274",
    b"7" * 11,
    b"-1",
    b"9",
    b"\x80" + b"\0" * 10 + b"\x05",
    b"\x80" + b"\xff" * 11,
    b"\xff" * 12,
    b"\0" * 12,
]
KINDS = [bytes([code]) for code in b"\x000123456789xgLKSVDMNXAZ"]
records = st.lists(st.tuples(st.sampled_from(KEYWORDS), st.sampled_from(VALUES)), max_size=3)
headers = st.tuples(st.sampled_from(VALUES), st.sampled_from(SIZES), st.sampled_from(KINDS), records, st.integers(0, 3))


def written(name: str, size: bytes, kind: bytes, records: list[tuple[str, str]], blocks: int) -> bytes:
    """A header with a correct checksum, after its pax header and before some blocks of content."""
    extended = b"".join(pax_record(*record) for record in records)
    if extended:
        size_of = b"%o" % len(extended)
        extended = written("pax", size_of, b"x", [], 0) + extended + bytes(-len(extended) % BLOCK)
    block = bytearray(BLOCK)
    for start, field in ((0, name.encode()[:100]), (124, size), (148, b" " * 8), (156, kind), (257, b"ustar\x0000")):
        block[start : start + len(field)] = field
    block[148:156] = b"%06o\0 " % sum(block)
    return extended + bytes(block) + b"c" * BLOCK * blocks


def pax_record(keyword: str, value: str) -> bytes:
    body = f" {keyword}={value}\n".encode()
    length = len(body) + len(str(len(body)))
    return b"%d%b" % (len(body) + len(str(length)), body)


@fuzz(200)
@given(st.lists(headers, min_size=1, max_size=4), st.booleans())
def test_headers_with_any_fields(fields, end):
    content = b"".join(written(*each) for each in fields) + bytes(2 * BLOCK * end)
    check(read_members(content)[0], content)
    parts = parts_of(content, "a/s.tar", Start())
    assert sum(part.table.num_rows + part.ignored for part in parts) == len(read_members(content)[0])


def parts_of(content: bytes, key: str, start: Start) -> list[Part]:
    store = MemoryStore(key, content)
    config = SourceConfig(
        input_uri=store.uri, unit_images=2, unit_bytes=2000, max_member_bytes=LIMIT, key_pattern="{lot}/{name}"
    )
    (unit,) = plan_units(tar, iter([store.object]), config, store)
    return list(tar.read(unit, store, config, start))


@fuzz(100)
@given(shards, st.booleans(), st.booleans())
def test_parts_of_a_damaged_tar_are_the_same_from_wherever_they_are_resumed(shard, repair, gz):
    content = repaired(shard[1]) if repair else shard[1]
    key, content = ("a/s.tgz", gzip.compress(content)) if gz else ("a/s.tar", content)
    parts = parts_of(content, key, Start())
    assert sum(part.table.num_rows + part.ignored for part in parts) == len(read_members(content, gz)[0])
    seen: dict[str, int] = {}
    for number, part in enumerate(parts[:-1]):
        for name in part.table["member"].to_pylist():
            seen[name] = seen.get(name, 0) + 1
        resumed = parts_of(content, key, Start(part.next_offset, number + 1, dict(seen)))
        assert [each.table for each in resumed] == [each.table for each in parts[number + 1 :]]
        assert [each.ignored for each in resumed] == [each.ignored for each in parts[number + 1 :]]
