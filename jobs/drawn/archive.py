"""The demo archive: tar shards of procedural images, laid out like a plant's, with a few damaged files among them."""

import csv
import io
import tarfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image

from jobs.drawn.pictures import DEFECTS, PRODUCTS, Sample, render

SIZE_PX = 288
DEFECT_SHARE = 0.15
BAD_LOT, BAD_SHARE = (1, 1, 0), 0.6  # product, day and lot of the archive in which something went wrong
GOOD_DAYS = ("2024-05-01", "2024-05-02", "2024-05-03")
ARCHIVE_DAYS = ("2024-06-03", "2024-06-04")
LOTS_PER_DAY = 2


@dataclass(frozen=True)
class Order:
    """One shard to make: its product, day and lot, and what each of its images shows."""

    key: str
    product: str
    seed: tuple[int, ...]
    defects: tuple[str, ...]
    damaged: tuple[str, ...] = ()


@dataclass(frozen=True)
class Shard:
    """A finished tar, and the truth about its members, which the tar does not hold."""

    key: str
    tar: bytes
    truth: list[dict[str, str | int]]


def orders(images: int, archive: bool, seed: int) -> list[Order]:
    """The shards to make: `images` pictures spread over products, days and lots.

    Args:
        images: the least number, rounded up to whole shards.
        archive: True for the mixed archive with defects and damaged files, False for good training images.
    """
    days = ARCHIVE_DAYS if archive else GOOD_DAYS
    shards = [(p, d, n) for p in range(len(PRODUCTS)) for d in range(len(days)) for n in range(LOTS_PER_DAY)]
    per_shard = -(-images // len(shards))
    made = []
    for p, d, n in shards:
        product, lot = PRODUCTS[p], f"{PRODUCTS[p][0].upper()}{d + 1}{n + 1}"
        shard_seed = (seed, int(archive), p, d, n)
        rng = np.random.default_rng(shard_seed)
        kinds = ["good"] * per_shard
        if archive:
            share = BAD_SHARE if (p, d, n) == BAD_LOT else DEFECT_SHARE
            for position in rng.choice(per_shard, max(1, round(share * per_shard)), replace=False):
                kinds[position] = str(rng.choice(DEFECTS[product]))
        damaged = tuple(DAMAGE) if archive and (p, d, n) == (0, 0, 0) else ()
        made.append(Order(f"{product}/{days[d]}/{lot}/shard-{n:04d}.tar", product, shard_seed, tuple(kinds), damaged))
    return made


def make(orders: list[Order]) -> Iterator[Shard]:
    """The shards in order, drawn on all cores."""
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        yield from pool.map(_make_one, orders)


def _make_one(order: Order) -> Shard:
    out = io.BytesIO()
    truth: list[dict[str, str | int]] = []
    with tarfile.open(fileobj=out, mode="w") as tar:
        for number, defect in enumerate(order.defects):
            sample = render(order.product, defect, SIZE_PX, (*order.seed, number))
            name = f"{number:06d}.jpg"
            _add(tar, name, _jpeg(sample))
            truth.append({"shard": order.key, "member": name, "product": order.product, "defect": defect, **_box(sample)})
        for name in order.damaged:
            whole = _jpeg(render(order.product, "good", SIZE_PX, (*order.seed, 999_999)))
            _add(tar, name, DAMAGE[name](whole))
    return Shard(order.key, out.getvalue(), truth)


DAMAGE = {
    "900000_cut.jpg": lambda whole: whole[: len(whole) // 2],
    "900001_empty.jpg": lambda whole: b"",
    "900002_note.jpg": lambda whole: b"camera 3 offline, operator called\n",
    "900003_zeroed.jpg": lambda whole: bytes(len(whole)),
}


def _jpeg(sample: Sample) -> bytes:
    out = io.BytesIO()
    Image.fromarray(sample.pixels).save(out, "JPEG", quality=92)
    return out.getvalue()


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def _box(sample: Sample) -> dict[str, int]:
    y, x = np.nonzero(sample.mask)
    if not len(y):
        return {"x0": 0, "y0": 0, "x1": 0, "y1": 0}
    return {"x0": int(x.min()), "y0": int(y.min()), "x1": int(x.max()) + 1, "y1": int(y.max()) + 1}


def write_truth(shards: list[Shard], path: Path) -> None:
    """Write truth.csv: shard, member, product, defect (`good` or its kind), box of the defect in px (0 0 0 0 for good)."""
    rows = [row for shard in shards for row in shard.truth]
    with path.open("w", newline="") as out:
        writer = csv.DictWriter(out, rows[0])
        writer.writeheader()
        writer.writerows(rows)
