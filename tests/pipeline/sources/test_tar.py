import gzip
import io
import random
import tarfile
import tracemalloc
import zlib

import pytest
import zstandard
from plan_units import plan_units

from pipeline.input import tar_members
from pipeline.input.config import SourceConfig, Start
from pipeline.sources import tar
from pipeline.storage.objects import Archived, Changed, Denied, Gone, Refused, Unreachable
from pipeline.storage.store import LocalStore, open_store

BLOCK = 512
JPEG = b"\xff\xd8\xff\xe0"
PACKED = {
    "s.tar": lambda content: content,
    "s.tgz": gzip.compress,
    "s.tar.gz": gzip.compress,
    "s.tar.zst": zstandard.compress,
    "s.TZST": lambda content: zstandard.ZstdCompressor(level=19, write_checksum=True).compress(content),
}


def archive(members, form=tarfile.GNU_FORMAT, end=True):
    """Tar bytes of (name, content) pairs; a TarInfo in place of a name is taken as it is."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=form) as out:
        for name, content in members:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = len(content) if info.type in (tarfile.REGTYPE, b"Z") else info.size
            out.addfile(info, io.BytesIO(content))
    size = sum(len(block) for block in _used(sink.getvalue()))
    return sink.getvalue() if end else sink.getvalue()[:size]


def _used(content):
    blocks = [content[i : i + BLOCK] for i in range(0, len(content), BLOCK)]
    while blocks and not blocks[-1].strip(b"\0"):
        blocks.pop()
    return blocks


def images(count, seed=0):
    rng = random.Random(seed)
    return [(f"img{n:03}.jpg", rng.randbytes(rng.randrange(1, 2000))) for n in range(count)]


def info(name, **fields):
    made = tarfile.TarInfo(name)
    for field, setting in fields.items():
        setattr(made, field, setting)
    return made


@pytest.fixture
def read(tmp_path):
    """Reads a shard of these bytes; gives the parts."""

    def call(content, start=None, name="shard.tar", **config):
        (tmp_path / name).write_bytes(content)
        store = open_store(tmp_path)
        config = SourceConfig(input_uri=store.uri, **config)
        (entry,) = [entry for entry in store.list() if entry.key == name]
        (unit,) = plan_units(tar, iter([entry]), config, store)
        assert unit.images is None and unit.size == len(content)
        return list(tar.read(unit, store, config, start or Start()))

    return call


def rows(parts):
    return [row for part in parts for row in part.table.to_pylist()]


def good(parts):
    return [(row["member"], row["encoded"]) for row in rows(parts) if row["error"] is None]


def bad(parts):
    return [(row["member"], row["error"], row["byte_offset"]) for row in rows(parts) if row["error"] is not None]


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("name", PACKED)
def test_members_come_in_order_with_their_identity(read, form, name):
    members = [*images(10), ("deep/" * 15 + "a.jpg", b"x")]
    if form != tarfile.USTAR_FORMAT:
        members += [("long" * 60 + ".jpg", b"long"), ("ü/ñ 😀\n.jpg", b"u")]
    content = archive(members, form)
    (part,) = read(PACKED[name](content), name=name)
    assert good([part]) == members and not bad([part])
    assert part.next_offset is None
    row = part.table.to_pylist()[3]
    assert row["uri"].endswith(f"/{name}") and row["key"] == f"{name}/img003.jpg" and row["position"] == 3


@pytest.mark.parametrize("name", ["s.tar", "s.tgz", "s.tar.zst"])
def test_a_reader_started_at_any_part_gives_the_same_parts(read, name):
    members = images(60)
    members[7] = ("big.jpg", b"b" * 30_000)
    members.insert(9, ("img003.jpg", b"again"))
    members.insert(31, ("img003.jpg", b"and again"))
    members.insert(12, ("img012.json", b"{}"))
    members.insert(20, (info("folder", type=tarfile.DIRTYPE), b""))
    members.insert(21, (info("link.jpg", type=tarfile.SYMTYPE, linkname="x"), b""))
    members.insert(40, ("n" * 200 + ".jpg", b"long name"))
    members.insert(55, ("img013.id", b"not an image"))
    content = PACKED[name](archive(members, tarfile.PAX_FORMAT))
    options = {"unit_images": 7, "unit_bytes": 9_000, "name": name}
    parts = read(content, **options)
    assert all(part.table.num_rows <= 7 for part in parts) and len(parts) > 10
    assert [part.table.num_rows for part in parts if "big.jpg" in part.table["member"].to_pylist()] == [1]
    assert sum(part.table.num_rows for part in parts) == 64  # without the folder and the sidecar
    assert [row["image_id"] for row in rows(parts)] == list(dict.fromkeys(row["image_id"] for row in rows(parts)))
    seen = {}
    for number, part in enumerate(parts[:-1]):
        for member in part.table["member"].to_pylist():
            seen[member] = seen.get(member, 0) + 1
        again = read(content, Start(part.next_offset, number + 1, dict(seen)), **options)
        assert [p.table for p in again] == [p.table for p in parts[number + 1 :]]
        assert [p.next_offset for p in again] == [p.next_offset for p in parts[number + 1 :]]
        assert [p.ignored for p in again] == [p.ignored for p in parts[number + 1 :]]
    assert sum(part.ignored for part in parts) == 2


def test_an_exact_number_of_parts_has_no_empty_one(read):
    parts = read(archive(images(8)), unit_images=4)
    assert [(part.table.num_rows, part.next_offset is None) for part in parts] == [(4, False), (4, True)]
    assert [part.table.num_rows for part in read(archive([("a.json", b"{}"), (".b.jpg", b"x")]))] == [0]
    assert [part.table.num_rows for part in read(archive([]))] == [0]


# --- row 2 of design.md's table: corrupt headers, truncation ---


@pytest.mark.parametrize("victim", [0, 1, 5, 9])
@pytest.mark.parametrize(
    "damage", [lambda h: b"\xff" + h[1:], lambda h: bytes(BLOCK - 1) + b"x", lambda h: h[:124] + b"-" * 12 + h[136:]]
)
def test_a_corrupt_header_ends_the_shard_and_says_so(read, victim, damage):
    members = images(10)
    content = archive(members)
    offset = sum(BLOCK + len(c) + -len(c) % BLOCK for _, c in members[:victim])
    content = content[:offset] + damage(content[offset : offset + BLOCK]) + content[offset + BLOCK :]
    parts = read(content)
    assert good(parts) == members[:victim]
    assert bad(parts) == [(None, "corrupt_header", offset)]
    assert f"the {len(content) - offset} bytes from byte {offset} on are lost" in rows(parts)[-1]["message"]
    assert parts[-1].next_offset is None


def test_truncation_at_every_byte_is_reported(read):
    members = [("a.jpg", b"a" * 700), ("b.jpg", b""), ("n" * 120 + ".jpg", b"c" * 100), ("d.jpg", b"d" * 512)]
    content = archive(members, end=False)
    ends, offset = [], 0
    for name, body in members:
        offset += (3 * BLOCK if len(name) > 100 else BLOCK) + len(body)
        ends.append(offset)  # from here on the member is whole
        offset += -len(body) % BLOCK
    assert offset == len(content)
    for cut in [
        *range(0, len(content), 7),
        *range(0, len(content) + 1, BLOCK),
        *ends,
        *(end - 1 for end in ends),
        len(content),
    ]:
        parts = read(content[:cut])
        whole = sum(end <= cut for end in ends)
        assert good(parts) == members[:whole], cut
        ((member, error, at),) = bad(parts)
        assert error == "truncated" and at is not None and at <= cut, cut
        assert member in (None, members[whole][0] if whole < 4 else None)
        assert "end" in rows(parts)[-1]["message"]


@pytest.mark.parametrize("zero_blocks", [1, 2, 3, 20])
def test_zero_blocks_at_the_end_are_an_end(read, zero_blocks):
    parts = read(archive(images(3), end=False) + bytes(BLOCK * zero_blocks))
    assert len(good(parts)) == 3 and not bad(parts)


@pytest.mark.parametrize("zero_blocks", [1, 2, 20])
def test_data_after_the_end_is_reported(read, zero_blocks):
    first = archive(images(3), end=False) + bytes(BLOCK * zero_blocks)
    parts = read(first + archive(images(2, seed=1)))
    assert len(good(parts)) == 3
    assert bad(parts) == [(None, "data_after_end", len(first))]


def test_other_kinds_of_members(read):
    nested = archive(images(2))
    members = [
        ("a.jpg", b"a"),
        (info("hard.jpg", type=tarfile.LNKTYPE, linkname="a.jpg"), b""),
        (info("soft.jpg", type=tarfile.SYMTYPE, linkname="a.jpg"), b""),
        (info("pipe.jpg", type=tarfile.FIFOTYPE), b""),
        (info("odd.jpg", type=b"Z"), b"odd content"),
        ("folder/._a.jpg", b"apple double"),
        ("labels.cls", b"7"),
        ("zero.jpg", b""),
        ("inner.tar", nested),
        ("./b.jpg", b"b"),
    ]
    parts = read(archive(members), key_pattern="{lot}/{name}")
    assert good(parts) == [("a.jpg", b"a"), ("zero.jpg", b""), ("./b.jpg", b"b")]
    faults = [(f"{n}.jpg", "unsupported") for n in ("hard", "soft", "pipe", "odd")] + [("inner.tar", "unsupported_archive")]
    assert [(m, e) for m, e, _ in bad(parts)] == faults
    assert parts[-1].ignored == 2
    assert rows(parts)[-1]["lot"] == "shard.tar" and rows(parts)[-1]["keys"] == [("name", "b.jpg")]


def test_sparse_files_are_unsupported_and_what_follows_is_read(read):
    sparse = bytearray(info("s.jpg", size=BLOCK).tobuf(tarfile.GNU_FORMAT))
    sparse[156:157], sparse[482] = b"S", 1
    sparse[148:156] = b" " * 8
    sparse[148:156] = b"%06o\0 " % sum(sparse)
    more, last = bytearray(BLOCK), bytes(BLOCK)
    more[504] = 1
    old = bytes(sparse) + bytes(more) + last + b"x" * BLOCK
    new = archive([(info("GNUSparse/n.jpg", pax_headers={"GNU.sparse.major": "1"}), b"y" * 10)], tarfile.PAX_FORMAT, False)
    parts = read(old + new + archive([("a.jpg", b"a")]))
    assert good(parts) == [("a.jpg", b"a")]
    assert bad(parts) == [("s.jpg", "unsupported", 0), ("GNUSparse/n.jpg", "unsupported", 4 * BLOCK)]


def test_large_members_are_not_read(read, monkeypatch):
    lengths = []
    real = LocalStore.get_range
    monkeypatch.setitem(LocalStore.open_stream.__globals__, "RANGE_BYTES", 4096)
    monkeypatch.setattr(LocalStore, "get_range", lambda *a: (lengths.append(a[3]), real(*a))[1])
    members = [("a.jpg", b"a"), ("huge.jpg", b"h" * 100_000), ("b.jpg", b"b"), ("huge.jpg", b"h" * 100_000)]
    parts = read(archive(members), max_member_bytes=50_000)
    assert good(parts) == [("a.jpg", b"a"), ("b.jpg", b"b")]
    assert [(m, e) for m, e, _ in bad(parts)] == [("huge.jpg", "too_large")] * 2
    assert [row["bytes"] for row in rows(parts)] == [1, 100_000, 1, 100_000]
    assert len({row["image_id"] for row in rows(parts)}) == 4
    assert parts[0].bytes_read < 30_000


def test_damaged_extended_headers(read):
    content = archive([("n" * 200 + ".jpg", b"x"), ("b.jpg", b"b")], tarfile.PAX_FORMAT)
    for damaged in (
        content.replace(b"214 path=", b"999 path=", 1),
        content.replace(b"214 path=", b"xxx path=", 1),
        content.replace(b"214 path=", b"214_path=", 1),
        content.replace(b"214 path=", b"214 size=", 1),
    ):
        assert damaged != content
        parts = read(damaged)
        assert good(parts) == [] and bad(parts) == [(None, "corrupt_header", 0)]
    for size in (-1, 1 << 40):
        header = bytearray(info("././@LongLink", type=tarfile.GNUTYPE_LONGNAME, size=size).tobuf(tarfile.GNU_FORMAT))
        assert bad(read(bytes(header) + content)) == [(None, "corrupt_header", 0)]


@pytest.mark.parametrize("size", [b"\x80" + b"\xff" * 11, b"\x80" + b"\0" * 3 + b"\x80" + b"\0" * 7, b"\xff" * 12])
def test_a_size_that_no_file_has_ends_the_shard(read, size):
    header = bytearray(info("a.jpg").tobuf(tarfile.GNU_FORMAT))
    header[124:136] = size
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    parts = read(archive(images(2), end=False) + bytes(header) + b"x" * BLOCK)
    assert len(good(parts)) == 2 and [(m, e) for m, e, _ in bad(parts)] == [(None, "corrupt_header")]


@pytest.mark.parametrize("size", ["9" * 5000, "9" * 19, "-1", "1e3"])
def test_a_pax_size_that_no_file_has_ends_the_shard(read, size):
    member = info("b.jpg", pax_headers={"size": size})
    parts = read(archive([("a.jpg", b"a"), (member, b"b")], tarfile.PAX_FORMAT))
    assert good(parts) == [("a.jpg", b"a")] and [(m, e) for m, e, _ in bad(parts)] == [(None, "corrupt_header")]


def test_names_that_are_not_utf8(read):
    content = archive([("caf\udce9.jpg", b"x")])
    assert good(read(content)) == [("caf\\xe9.jpg", b"x")]


@pytest.mark.parametrize("seed", range(40))
def test_random_damage_never_escapes_and_never_hides(read, seed):
    rng = random.Random(seed)
    members = images(12, seed)
    content = bytearray(archive(members, rng.choice([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])))
    for _ in range(rng.choice([1, 1, 3, 30])):
        content[rng.randrange(len(content))] = rng.randrange(256)
    parts = read(bytes(content), unit_images=5)
    found = rows(parts)
    ended_early = found and found[-1]["error"] in ("corrupt_header", "truncated", "data_after_end")
    assert len(found) >= 12 or ended_early or any(f != m for f, m in zip(good(parts), members, strict=False))
    assert sum(row["encoded"] is not None for row in found) <= 12 + sum(row["error"] is not None for row in found)


def pax_member(records, name="a.jpg", content=b"content"):
    """A member with these pax records (bytes, bytes), as no tar program would write them."""
    body = b""
    for keyword, setting in records:
        record = b" " + keyword + b"=" + setting + b"\n"
        length = len(record) + 1
        while len(str(length)) + len(record) != length:
            length += 1
        body += str(length).encode() + record
    header = info("pax", type=tarfile.XHDTYPE, size=len(body)).tobuf(tarfile.USTAR_FORMAT)
    return header + body + bytes(-len(body) % BLOCK) + archive([(name, content)], end=False)


NAMES = [
    *("../../escape.jpg", "/etc/escape.jpg", "a/../../b.jpg", "a\nb.jpg", "q'\"`;--.jpg", "%2e%2e%2fx.jpg"),
    *("a\\b.jpg", "<b>x</b>.jpg", "{lot}.jpg", "tab\t\r\x7f.jpg", "\u202egpj.jpg", "é.jpg", "e\u0301.jpg", "😀.jpg"),
    *(" .jpg", "n" * 1000 + ".jpg", "n" * 4092 + ".jpg", "nul\0.jpg"),
]


def test_a_name_is_only_a_name(read, tmp_path):
    """Nothing is written under it, nothing is looked up by it, and each image has its own identity."""
    content = b"".join(pax_member([(b"path", name.encode())], content=name.encode()) for name in NAMES)
    parts = read(content + bytes(2 * BLOCK), key_pattern="{shard}/{name}")
    assert good(parts) == [(name, name.encode()) for name in NAMES] and not bad(parts)
    assert len({row["image_id"] for row in rows(parts)}) == len(NAMES)
    assert [dict(row["keys"]) for row in rows(parts)] == [{"shard": "shard.tar", "name": name} for name in NAMES]
    assert [*tmp_path.rglob("*")] == [tmp_path / "shard.tar"] and not (tmp_path.parents[1] / "escape.jpg").exists()


@pytest.mark.parametrize("gz", [False, True])
@pytest.mark.parametrize("length", [4097, 1_000_000])
def test_an_endless_name_is_a_fault_and_is_not_kept(read, length, gz):
    names = ["n" * (length - 4) + ".jpg", "n" * (length - 5) + "m.jpg"]
    content = b"".join(pax_member([(b"path", name.encode())]) for name in names) + archive([("b.jpg", b"b")])
    parts = read(gzip.compress(content, 1) if gz else content, name="s.tgz" if gz else "s.tar")
    assert good(parts) == [("b.jpg", b"b")]
    assert [error for _, error, _ in bad(parts)] == ["too_large"] * 2
    found = [row["member"] for row in rows(parts)][:2]
    assert all(len(name) < 500 and name.startswith("nnn") and name.endswith(".jpg") for name in found) and found[0] != found[1]
    assert f"the member's name has {length} bytes; the limit is 4096" in rows(parts)[0]["message"]


@pytest.mark.parametrize("gz", [False, True])
@pytest.mark.parametrize(
    "damaged",
    [
        *(pax_member([(b"size", size)]) for size in (b"9" * 5000, b"9" * 25, str(1 << 63).encode(), b"-1", "٣".encode(), b"")),
        bytes(1),
    ],
)
def test_a_size_that_no_file_has(read, damaged, gz):
    """Also sizes of which Python or a column of 64 bits would say that they are too many digits."""
    if damaged == bytes(1):
        header = bytearray(info("a.jpg").tobuf(tarfile.GNU_FORMAT))
        header[124:136], header[148:156] = b"\x80" + (1 << 70).to_bytes(11, "big"), b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
        damaged = bytes(header)
    content = archive([("first.jpg", b"1")], end=False)
    whole = content + damaged
    parts = read(gzip.compress(whole) if gz else whole, name="s.tgz" if gz else "s.tar")
    assert good(parts) == [("first.jpg", b"1")] and bad(parts) == [(None, "corrupt_header", len(content))]


def test_a_size_beyond_the_shard_is_a_truncation(read):
    parts = read(pax_member([(b"size", str((1 << 63) - 1).encode())]))
    assert bad(parts) == [("a.jpg", "truncated", 0)] and rows(parts)[0]["bytes"] == (1 << 63) - 1


def test_a_header_of_many_records_takes_work_in_proportion():
    """Counted in bytes that are looked at: one header of 1 MiB once took 80 GB of copies."""
    looked_at = []

    class Body(bytes):
        def __getitem__(self, index):
            piece = Body(super().__getitem__(index))
            looked_at.append(len(piece))
            return piece

        def rstrip(self, *characters):
            return Body(super().rstrip(*characters))

    body = b"6 a=b\n" * 20_000
    assert tar_members._pax(Body(body)) == {"a": "b"}
    assert sum(looked_at) < 10 * len(body)


def test_duplicates_links_and_nested_archives_of_a_hostile_tar(read):
    inner = archive([("deep.jpg", b"deep"), (info("up.jpg", type=tarfile.SYMTYPE, linkname="../../../up"), b"")])
    members = [
        *(("same.jpg", bytes([n])) for n in range(5)),
        (info("same.jpg", type=tarfile.LNKTYPE, linkname="/etc/passwd"), b""),
        (info("out.jpg", type=tarfile.SYMTYPE, linkname="/etc/passwd"), b""),
        (info("self.jpg", type=tarfile.SYMTYPE, linkname="self.jpg"), b""),
        (info("null.jpg", type=tarfile.CHRTYPE, devmajor=1, devminor=5), b""),
        ("inner.tar", inner),
        ("inner.tar.gz", gzip.compress(inner)),
        ("last.jpg", b"last"),
    ]
    parts = read(archive(members))
    assert good(parts) == [*members[:5], members[-1]]
    assert [(name, error) for name, error, _ in bad(parts)] == [
        *((name, "unsupported") for name in ("same.jpg", "out.jpg", "self.jpg", "null.jpg")),
        *((name, "unsupported_archive") for name in ("inner.tar", "inner.tar.gz")),
    ]
    assert len({row["image_id"] for row in rows(parts)}) == len(members)


# --- gzip ---


def test_damaged_gzip_gives_what_came_before(read):
    members = images(30)
    content = gzip.compress(archive(members), 6)
    for cut in (0, 5, 11, 1000, len(content) // 2, len(content) - 9, len(content) - 1):
        parts = read(content[:cut], name="s.tgz")
        assert good(parts) == members[: len(good(parts))]
        if cut < len(content) - 9:
            assert [(m is None, e) for m, e, _ in bad(parts)][-1][1] in ("corrupt_shard", "truncated")
    assert len(good(read(content[: len(content) // 2], name="s.tgz"))) > 5
    broken = bytearray(content)
    broken[len(content) // 2 : len(content) // 2 + 40] = b"\xff" * 40
    parts = read(bytes(broken), name="s.tgz")
    assert len(good(parts)) > 5 and bad(parts)
    ((_, error, _),) = bad(read(b"no gzip at all" * 100, name="s.tgz"))
    assert error == "corrupt_shard"


def test_damaged_gzip_behind_a_whole_member_costs_only_what_follows(read):
    content = archive([("a.jpg", b"a" * 700)], end=False)
    pieces = gzip.compress(content[:-100]) + b"no gzip"
    parts = read(pieces, name="s.tgz")
    assert good(parts) == [("a.jpg", b"a" * 700)]
    assert bad(parts) == [(None, "corrupt_shard", BLOCK + 700)]


def test_gzip_of_several_members_and_padding(read):
    members = images(9)
    content = archive(members)
    pieces = gzip.compress(content[:3000]) + gzip.compress(content[3000:]) + bytes(100)
    assert good(read(pieces, name="s.tar.gz")) == members


def test_a_gzip_bomb_is_read_in_steps(read):
    """A member of 200 MB in 200 KB is over the limit, so it is skipped and never held; what follows is read."""
    deflate, million = zlib.compressobj(1, zlib.DEFLATED, 31), bytes(1_000_000)
    pieces = [deflate.compress(info("bomb.jpg", size=200_000_000).tobuf(tarfile.GNU_FORMAT))]
    pieces += [deflate.compress(million) for _ in range(200)]
    pieces += [deflate.compress(archive([("b.jpg", b"b")])), deflate.flush()]
    assert 200_000_000 % BLOCK == 0
    tracemalloc.start()
    parts = read(b"".join(pieces), name="s.tgz", max_member_bytes=1_000_000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert good(parts) == [("b.jpg", b"b")] and bad(parts) == [("bomb.jpg", "too_large", 0)]
    assert peak < 40_000_000


# --- storage under it ---


def stream_of(store, config, unit, start=None):
    return list(tar.read(unit, store, config, start or Start()))


@pytest.fixture
def shard(place, monkeypatch):
    """A shard read in ranges of 3,000 bytes: (store, config, unit, members)."""
    store, members = open_store(place), images(30)
    store.put("line1/2026-01-01/s.tar", archive(members))
    config = SourceConfig(input_uri=place, unit_images=8, key_pattern="{line}/{date}/{shard}/{name}")
    monkeypatch.setitem(type(store).open_stream.__globals__, "RANGE_BYTES", 3000)
    (unit,) = plan_units(tar, store.list(), config, store)
    return store, config, unit, members


def test_ranges_join_without_a_seam(shard):
    store, config, unit, members = shard
    parts = stream_of(store, config, unit)
    assert good(parts) == members and unit.date == "2026-01-01"
    assert [part.table.num_rows for part in parts] == [8, 8, 8, 6]
    assert unit.size - 30 * BLOCK < sum(part.bytes_read for part in parts) <= unit.size
    assert rows(parts)[0]["keys"] == [("line", "line1"), ("shard", "s.tar"), ("name", "img000.jpg")]


def test_a_fault_in_the_middle_is_read_again_from_its_offset(shard, monkeypatch):
    store, config, unit, members = shard
    whole = [part.table for part in stream_of(store, config, unit)]
    if store.uri.startswith("file://"):
        real, calls = LocalStore._path, []

        def flaky(self, key):
            calls.append(key)
            if len(calls) % 2:
                raise OSError(5, "Input/output error")
            return real(self, key)

        monkeypatch.setattr(LocalStore, "_path", flaky)
    else:
        from botocore.exceptions import ReadTimeoutError

        real, calls = store._client.get_object, []

        def flaky(**request):
            calls.append(request)
            if len(calls) % 2:
                raise ReadTimeoutError(endpoint_url="x")
            return real(**request)

        monkeypatch.setattr(store._client, "get_object", flaky)
    monkeypatch.setattr("pipeline.storage.objects.time.sleep", lambda seconds: None)
    assert [part.table for part in stream_of(store, config, unit)] == whole
    assert len(calls) > 10


@pytest.mark.parametrize(
    ("fault", "error"), [(Gone, "gone"), (Changed, "changed"), (Refused, "refused"), (Archived, "archived")]
)
def test_row_3_a_shard_lost_while_it_is_read(shard, monkeypatch, fault, error):
    store, config, unit, members = shard
    real = type(store).get_range

    def get_range(self, key, start, length, etag=None):
        if start > 15_000:
            raise fault("x")
        return real(self, key, start, length, etag)

    monkeypatch.setattr(type(store), "get_range", get_range)
    parts = stream_of(store, config, unit)
    assert 5 < len(good(parts)) < 30 and good(parts) == members[: len(good(parts))]
    ((member, code, offset),) = bad(parts)
    assert (member, code) == (None, error) and offset > 10_000
    assert rows(parts)[-1]["error"] == error and parts[-1].next_offset is None


def test_row_3_a_shard_deleted_or_replaced_before_it_is_read(shard):
    store, config, unit, _ = shard
    store.put("line1/2026-01-01/s.tar", archive(images(3, seed=5)))
    assert bad(stream_of(store, config, unit)) == [(None, "changed", 0)]
    store.delete("line1/2026-01-01/s.tar")
    assert bad(stream_of(store, config, unit)) == [(None, "gone", 0)]
    assert bad(stream_of(store, config, unit, Start(1536, 1, {}))) == [(None, "gone", 1536)]


@pytest.mark.parametrize("error", [Unreachable, Denied])
def test_an_unreachable_shard_is_no_row(shard, monkeypatch, error):
    store, config, unit, _ = shard

    def get_range(*arguments):
        raise error("x")

    monkeypatch.setattr(type(store), "get_range", get_range)
    with pytest.raises(error):
        stream_of(store, config, unit)


# --- members that are no pictures, archives, and several pictures of one key ---

SIDECARS = [
    "index",
    "jsn",
    "id",
    "npz",
    "pyd",
    "text",
    "cls2",
    "cbor",
    "caption",
    "wav",
    "bbox",
    "lbl",
    "html",
    "docx",
    "pdf",
    "mp4",
]


@pytest.mark.parametrize("suffix", SIDECARS)
def test_sidecars_of_any_suffix_are_ignored_and_counted(read, suffix):
    members = [(f"{n:04}.{x}", c) for n in range(10) for x, c in (("jpg", JPEG + b"%d" % n), (suffix, b"PK\x03\x04 or else"))]
    members += [(f"x/README{suffix}", b"notes"), ("empty", b""), ("@eaDir/0001.jpg", JPEG)]
    parts = read(archive(members), unit_images=4)
    assert good(parts) == [member for member in members if member[0].endswith(".jpg") and "@" not in member[0]] and not bad(
        parts
    )
    assert sum(part.ignored for part in parts) == 13


def test_a_picture_is_known_by_its_name_or_by_its_bytes(read):
    members = [
        ("damaged.jpg", b"no jpeg at all"),
        ("empty.png", b""),
        ("0001", JPEG + b"x" * 5000),
        ("0002.img", b"\x89PNG\r\n\x1a\n" + b"p" * 600),
        ("0003.bin", b"BM" + bytes(12) + b"\x28\0\0\0" + b"b" * 100),
        ("0004.dat", b"MM\0*" + b"t" * 10),
        ("0005.dat", b"BM, a note"),
        ("0006.dat", b"d" * 3000),
        (info("0007.dat", type=tarfile.SYMTYPE, linkname="0006.dat"), b""),
    ]
    for content, name in ((archive(members), "s.tar"), (zstandard.compress(archive(members)), "s.tar.zst")):
        (part,) = read(content, name=name)
        assert good([part]) == members[:6] and not bad([part]) and part.ignored == 3


def test_a_large_member_without_a_known_suffix_is_looked_at_before_it_is_too_large(read):
    members = [("a.jpg", b"a"), ("video.bin", b"v" * 90_000), ("picture.bin", JPEG + b"p" * 90_000), ("b.jpg", b"b")]
    (part,) = read(archive(members), max_member_bytes=50_000)
    assert good([part]) == [members[0], members[3]] and part.ignored == 1
    assert [(m, e) for m, e, _ in bad([part])] == [("picture.bin", "too_large")]


@pytest.mark.parametrize("name", ["b.zip", "b.7z", "x/b.tar.xz", "b.tar", "b.tar.zst", "b.jpg.gz", "b.rar"])
def test_an_archive_in_a_tar_is_one_error_that_names_it(read, name):
    (part,) = read(archive([("a.jpg", b"a"), (name, b"PK" * 700), ("c.jpg", b"c"), ("labels.json.gz", b"gz")]))
    assert good([part]) == [("a.jpg", b"a"), ("c.jpg", b"c")] and part.ignored == 1
    assert bad([part]) == [(name, "unsupported_archive", 1024)]
    assert repr(name.rpartition("/")[2]) in rows([part])[1]["message"]


PAIRS = [(f"{n:04}.{x}", JPEG + x.encode()) for n in range(10) for x in ("jpg", "mask.png")]


def test_members_chooses_among_pictures_of_one_key(read, monkeypatch):
    said = []
    monkeypatch.setattr(tar, "_said", set())
    monkeypatch.setattr(tar.log, "warning", lambda text, *cells: said.append(text % cells))
    assert good(read(archive(PAIRS))) == PAIRS
    assert len(said) == 1 and "'0000.jpg'" in said[0] and "'0000.mask.png'" in said[0] and "--members" in said[0]
    read(archive(PAIRS))
    assert len(said) == 1, "once in a process"
    for patterns, wanted in (
        ("*.jpg", PAIRS[::2]),
        ("*.MASK.png", PAIRS[1::2]),
        ("*.jpg,*.png", PAIRS),
        ("0003.*", PAIRS[6:8]),
    ):
        parts = read(archive(PAIRS), members=patterns, unit_images=3)
        assert good(parts) == wanted and sum(part.ignored for part in parts) == len(PAIRS) - len(wanted)


@pytest.mark.parametrize(
    "members",
    [
        [("0001.jpg", JPEG), ("0001.json", b"{}"), ("0002.jpg", JPEG)],
        [("a/0001.jpg", JPEG), ("b/0001.jpg", JPEG)],
        [("same.jpg", JPEG), ("same.jpg", JPEG)],
    ],
)
def test_nothing_is_said_where_no_two_pictures_share_a_key(read, monkeypatch, members):
    monkeypatch.setattr(tar, "_said", set())
    monkeypatch.setattr(tar.log, "warning", pytest.fail)
    read(archive(members))


# --- zstd ---


def test_zstd_of_several_frames_and_with_skippable_ones(read):
    members = images(20)
    content = archive(members)
    halves = [zstandard.compress(content[:3000]), zstandard.compress(content[3000:])]
    skippable = b"\x50\x2a\x4d\x18\x04\0\0\0abcd"
    for packed in (b"".join(halves), skippable.join([b"", *halves, b""]), b"".join([*halves, zstandard.compress(b"")])):
        parts = read(packed, name="s.tar.zst")
        assert good(parts) == members and not bad(parts)


@pytest.mark.parametrize("share", [0.05, 0.3, 0.5, 0.9, 0.999])
def test_a_cut_zstd_gives_what_stands_before_the_cut(read, share):
    members = [(f"{n}.jpg", random.Random(n).randbytes(40_000)) for n in range(20)]
    packed = zstandard.ZstdCompressor(write_checksum=True).compress(archive(members))
    parts = read(packed[: int(share * len(packed))], name="s.tar.zst")
    whole = good(parts)
    assert whole == members[: len(whole)]
    decompressed = zstandard.ZstdDecompressor().decompressobj().decompress(packed[: int(share * len(packed))])
    assert len(whole) == sum((n + 1) * 40_960 - 448 <= len(decompressed) for n in range(20))  # 512 + 40,000 and padding each
    assert bad(parts)[-1][1] in ("corrupt_shard", "truncated") and "ends early" in rows(parts)[-1]["message"]


@pytest.mark.parametrize("seed", range(10))
def test_a_damaged_zstd_is_never_silently_shorter(read, seed):
    rng = random.Random(seed)
    members = images(30, seed)
    packed = bytearray(zstandard.ZstdCompressor(write_checksum=True).compress(archive(members)))
    packed[rng.randrange(4, len(packed))] ^= 1 + rng.randrange(255)
    parts = read(bytes(packed), name="s.tar.zst")
    assert bad(parts) and (rows(parts)[-1]["error"] is not None)


def test_a_zstd_that_wants_too_much_memory_is_one_error(read):
    parameters = zstandard.ZstdCompressionParameters(window_log=28, enable_ldm=True)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    content = archive(images(3))
    (part,) = read(packer.compress(content) + packer.flush(), name="s.tar.zst")
    assert bad([part]) == [(None, "corrupt_shard", 0)] and "too much memory" in rows([part])[0]["message"]


def test_a_zstd_bomb_is_never_held_whole(read):
    packed = zstandard.compress(archive([("a.jpg", b"a"), ("bomb.jpg", bytes(300 << 20)), ("b.jpg", b"b")]))
    tracemalloc.start()
    parts = read(packed, name="s.tar.zst", max_member_bytes=1 << 20)
    assert tracemalloc.get_traced_memory()[1] < 100 << 20
    tracemalloc.stop()
    assert good(parts) == [("a.jpg", b"a"), ("b.jpg", b"b")] and [e for _, e, _ in bad(parts)] == ["too_large"]
