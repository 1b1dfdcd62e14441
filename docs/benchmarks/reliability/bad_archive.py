"""An archive of small drawn images in which 1 % are bad in 20 different ways, and what must become of each bad one."""

import io
import pickle
import struct
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

WAYS = 20
PER_SHARD = 200
PER_FOLDER = 1000
MAX_MEMBER_BYTES = 1_000_000
SIZE_PX = 96
END = bytes(2 * tarfile.BLOCKSIZE)


class Expected(NamedTuple):
    """A row of errors. name: of the object below the input.  byte_offset: None where the table must have none."""

    name: str
    member: str | None
    stage: str
    error: str
    byte_offset: int | None


class Content(NamedTuple):
    """A way to be bad by what the bytes of the image say, whatever holds them."""

    way: str
    stage: str
    error: str
    spoil: Callable[[int], bytes]


class InTar(NamedTuple):
    """A way to be bad that only a tar has. It gives the member, or what is there instead of it, by name and image.

    ends: nothing can be read behind it, so it is the last of its shard.  named: whether the fault has a member's name.
    """

    way: str
    error: str
    spoil: Callable[[str, bytes], bytes]
    ends: bool = False
    named: bool = True


def picture(seed: int) -> Image.Image:
    """A grey surface with grain and a wave, as a camera sees a tile."""
    rng = np.random.default_rng(seed)
    surface = rng.normal(128, 12, (SIZE_PX, SIZE_PX)) + 20 * np.sin(np.arange(SIZE_PX) / 3 + seed)
    return Image.fromarray(np.clip(surface, 0, 255).astype(np.uint8))


def encoded(image: Image.Image, form: str = "JPEG", **options: object) -> bytes:
    sink = io.BytesIO()
    image.save(sink, form, **options)
    return sink.getvalue()


def good(number: int) -> bytes:
    return encoded(picture(number), quality=90)


def png(width: int, height: int, pixels: bytes = b"", before: bytes = b"") -> bytes:
    """A grey PNG whose checksums are right, whatever is in it."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + before + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 16]) + content[at + 1 :]


def half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def huge_tile_tiff() -> bytes:
    """A TIFF of 10 x 10 pixels that asks for 4 GiB for its one tile."""
    tags = {256: 10, 257: 10, 258: 8, 259: 5, 262: 1, 322: 65520, 323: 65520, 324: 400, 325: 25}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, number) for tag, number in sorted(tags.items()))
    return (b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)).ljust(600, b"\0")


BOMB = chunk(b"zTXt", b"comment\0\0" + zlib.compress(bytes(50_000_000), 9))
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>fetch("http://localhost/")</script></svg>'
FLOATS = [np.full((32, 32), value, np.float32) for value in (np.nan, np.inf)]

CONTENTS = [
    Content("no bytes", "decode", "empty", lambda n: b""),
    Content("text", "decode", "not_an_image", lambda n: b"camera 3 offline\n" * (n % 50 + 1)),
    Content("JPEG cut in half", "decode", "truncated", lambda n: half(good(n))),
    Content("PNG with a flipped bit", "decode", "corrupt", lambda n: flipped(encoded(picture(n), "PNG"), 100)),
    Content("30,000 x 30,000 pixels", "decode", "too_many_pixels", lambda n: png(30_000, 30_000)),
    Content("tile of 4 GiB", "decode", "too_much_memory", lambda n: huge_tile_tiff()),
    Content("animated PNG", "decode", "several_images", lambda n: frames(n, "PNG")),
    Content("animated GIF", "decode", "unsupported_format", lambda n: frames(n, "GIF")),
    Content("32-bit TIFF of NaN", "decode", "unsupported_format", lambda n: encoded(Image.fromarray(FLOATS[0]), "TIFF")),
    Content("32-bit TIFF of infinity", "decode", "unsupported_format", lambda n: encoded(Image.fromarray(FLOATS[1]), "TIFF")),
    Content("pickle", "decode", "not_an_image", lambda n: pickle.dumps({"image": n})),
    Content("PNG with a text of 50 MB in 50 kB", "decode", "corrupt", lambda n: png(4, 4, bytes(20), BOMB)),
    # the others are left out of tars, which have ways of their own
    Content("SVG with a script", "decode", "unsupported_format", lambda n: SVG),
    Content("PNG cut in half", "decode", "truncated", lambda n: half(encoded(picture(n), "PNG"))),
    Content("TIFF cut in half", "decode", "truncated", lambda n: half(encoded(picture(n), "TIFF"))),
    Content("BMP cut in half", "decode", "truncated", lambda n: half(encoded(picture(n), "BMP"))),
    Content("PNG without width", "decode", "corrupt", lambda n: png(0, 5)),
    Content("TIFF of two pages", "decode", "several_images", lambda n: frames(n, "TIFF")),
    Content("zeros", "decode", "not_an_image", lambda n: bytes(2000)),
    Content("more than max_member_bytes", "read", "too_large", lambda n: good(n).ljust(MAX_MEMBER_BYTES + 1, b"\0")),
]


def frames(number: int, form: str) -> bytes:
    return encoded(picture(number), form, save_all=True, append_images=[picture(number + 1)])


def member(name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = "") -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, len(content)
    return info.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % tarfile.BLOCKSIZE)


def sparse(name: str, content: bytes) -> bytes:
    return member(name, content, tarfile.GNUTYPE_SPARSE)


IN_TARS = [
    InTar("shard cut within a member", "truncated", lambda name, image: half(member(name, image)), ends=True),
    InTar("symbolic link", "unsupported", lambda name, image: member(name, kind=tarfile.SYMTYPE, link="../../x.jpg")),
    InTar("hard link", "unsupported", lambda name, image: member(name, kind=tarfile.LNKTYPE, link="000000.jpg")),
    InTar("device", "unsupported", lambda name, image: member(name, kind=tarfile.CHRTYPE)),
    InTar("sparse file", "unsupported", sparse),
    InTar("more than max_member_bytes", "too_large", lambda name, image: member(name, image.ljust(MAX_MEMBER_BYTES + 1))),
    InTar("corrupt header", "corrupt_header", lambda name, image: flipped(member(name, image), 3), ends=True, named=False),
    InTar("no end mark", "truncated", lambda name, image: b"", ends=True, named=False),
]
# Those that end a shard lie so far apart that no shard gets two of them.
TAR_WAYS: list[Content | InTar] = [IN_TARS[0], *CONTENTS[:6], IN_TARS[6], *CONTENTS[6:12], IN_TARS[7], *IN_TARS[1:6]]


def bad_numbers(images: int) -> list[int]:
    """Numbers of the bad ones: 1 %, at least one of each way, spread evenly."""
    count = max(WAYS, images // 100)
    return [(2 * i + 1) * images // (2 * count) for i in range(count)]


def write_files(folder: Path, images: int, spoiled: bool) -> list[Expected]:
    """Loose files in folders of 1,000."""
    ways = dict(zip(bad_numbers(images), _cycle(CONTENTS), strict=False)) if spoiled else {}
    expected = []
    for number in range(images):
        name = f"{number // PER_FOLDER:04d}/{number:07d}.jpg"
        way = ways.get(number)
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(way.spoil(number) if way else good(number))
        if way:
            expected.append(Expected(name, None, way.stage, way.error, None))
    return expected


def write_tars(folder: Path, images: int, spoiled: bool) -> list[Expected]:
    """Tar shards of 200 members."""
    ways = dict(zip(bad_numbers(images), _cycle(TAR_WAYS), strict=False)) if spoiled else {}
    folder.mkdir(parents=True)
    expected: list[Expected] = []
    for first in range(0, images, PER_SHARD):
        numbers = range(first, min(first + PER_SHARD, images))
        last = [number for number in numbers if isinstance(way := ways.get(number), InTar) and way.ends]
        assert len(last) < 2
        shard, content = f"shard-{first:07d}.tar", bytearray()
        for number in [*(number for number in numbers if number not in last), *last]:
            name, way = f"{number:07d}.jpg", ways.get(number)
            if isinstance(way, InTar):
                expected.append(Expected(shard, name if way.named else None, "read", way.error, len(content)))
                content += way.spoil(name, good(number))
            elif way:
                expected.append(Expected(shard, name, way.stage, way.error, None))
                content += member(name, way.spoil(number))
            else:
                content += member(name, good(number))
        (folder / shard).write_bytes(content if last else content + END)
    return expected


def _cycle(ways: list) -> Iterator:
    assert len(ways) == WAYS
    while True:
        yield from ways
