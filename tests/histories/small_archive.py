"""An archive of 5 to 30 tiny objects that changes: loose images, tars and Parquet files, whose images are texts.

As on S3, the etag is of the content (an object that is changed back has its old one), and the stamp changes with every write.
Image names say which piece of which lot they show, from which view: those of a tar or Parquet file are of any piece and lot.
"""

import io
import os
import random
import tarfile
import zlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.storage.local import PARTIAL

SUFFIXES = ("", "", "", ".tar", ".parquet")
MOST = 30
NULL = "__HIVE_DEFAULT_PARTITION__"
SHIFTED = {"lot-1": (0.0, 0.1), "lot-2": (0.9, 1.3)}  # these score lower and higher than all others
LOTS = (*("lot-0", *SHIFTED) * 2, NULL, NULL)
LINES = (*("l1", "l1", "l2") * 3, "l3", NULL)
VIEWS = (*("top", "side") * 4, "back")

Images = dict[str, bytes]
"""Of an object, by the name in it; loose ones have the name ""."""


class SmallArchive:
    """root: the folder below which it lies now.  images: of each object, by key.  unreadable: `archived` or `refused` ones."""

    def __init__(self, root: Path, days: bool) -> None:
        self.root, self.days = root, days
        self.images: dict[str, Images] = {}
        self.stamps: dict[str, int] = {}
        self.unreadable: dict[str, str] = {}
        self.day, self._made, self._time = 1, 0, 0
        self._earlier: dict[str, Images] = {}
        root.mkdir(parents=True)

    @property
    def uri(self) -> str:
        return f"file://{self.root}"

    def change(self, random: random.Random) -> str:
        """One change, such as people make; returns what it was."""
        some = sorted(self.images)
        deeds = ["add"] * (4 if len(some) < 5 else 2 if len(some) < MOST else 0)
        if some:
            deeds += ["change", "change", "back", "damage", "delete", "archive", "refuse", "mend", "mend", "touch"]
        deed = random.choice(deeds)
        key = random.choice(some) if deed != "add" else self._new_key(random)
        if deed == "add" or deed == "change":
            names = {""} if loose(key) else {_name(random) for _ in range(random.randint(1, 4))}
            self.write(key, {name: _image(random, f"{key}{name}") for name in sorted(names)})
        elif deed == "back":
            self.write(key, self._earlier.get(key, self.images[key]))
        elif deed == "damage":
            self.write(key, {name: b"bad %d" % random.randrange(100) for name in self.images[key]})
        elif deed == "delete":
            (self.root / key).unlink()
            del self.images[key]
            self.unreadable.pop(key, None)
        elif deed in ("archive", "refuse"):
            self.unreadable[key] = "archived" if deed == "archive" else "refused"
            self._stamp(key)
        elif deed == "mend":
            key = random.choice(sorted(self.unreadable) or some)
            self._mend(key)
        else:
            self._stamp(key)
        return f"{deed} {key}"

    def write(self, key: str, images: Images) -> None:
        if key in self.images:
            self._earlier[key] = self.images[key]
        self.images[key] = images
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        body = _object(key, images)
        partial = path.with_name(path.name + PARTIAL)
        partial.write_bytes(body)
        os.utime(partial, ns=(0, 10**18 + zlib.crc32(body)))
        os.replace(partial, path)
        self._stamp(key)

    def move(self) -> str:
        """Copy it to another folder, as to another bucket: contents and etags stay."""
        self._made += 1
        there = self.root.with_name(f"{self.root.name.partition('.')[0]}.{self._made}")
        self.root.rename(there)
        self.root = there
        for key in self.images:
            self._stamp(key)
        return f"move to {there.name}"

    def mend_all(self) -> None:
        for key in sorted(self.unreadable):
            self._mend(key)

    def _mend(self, key: str) -> None:
        self.unreadable.pop(key, None)
        self._stamp(key)

    def _stamp(self, key: str) -> None:
        self._time += 1
        self.stamps[key] = self._time

    def _new_key(self, random: random.Random) -> str:
        self._made += 1
        folder = f"2026-01-{max(1, self.day - random.choice((0, 0, 0, 1, 2))):02d}/" if self.days else ""
        suffix = random.choice(SUFFIXES)
        box = f"{folder}{random.choice(LINES)}-{self._made:03d}"
        return f"{box}{suffix}" if suffix else f"{box}/{_name(random)}"


def loose(key: str) -> bool:
    """Whether the object is one image."""
    return key.endswith(".png")


def _name(random: random.Random) -> str:
    return f"{random.choice(LOTS)}/s{random.randrange(3)}_{random.choice(VIEWS)}.png"


def _image(random: random.Random, name: str) -> bytes:
    if random.random() > 0.9:
        return b"bad %d" % random.randrange(100)
    low, high = next((SHIFTED[lot] for lot in SHIFTED if lot in name), (0.0, 1.0))
    return b"good %.3f" % random.uniform(low, high)


def _object(key: str, images: Images) -> bytes:
    if loose(key):
        return images[""]
    sink = io.BytesIO()
    if key.endswith(".parquet"):
        columns = {"name": pa.array(images), "image": pa.array(images.values(), pa.binary())}
        pq.write_table(pa.table(columns), sink)
    else:
        with tarfile.open(fileobj=sink, mode="w") as tar:
            for name, image in images.items():
                member = tarfile.TarInfo(name)
                member.size = len(image)
                tar.addfile(member, io.BytesIO(image))
    return sink.getvalue()
