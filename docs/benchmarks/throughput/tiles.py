"""Images of 20 megapixels to batches of tiles, by children that decode, and the share of slots that hold a tile.

    PYTHONPATH=. OMP_NUM_THREADS=1 python docs/benchmarks/throughput/tiles.py [--children 2] [--images 12] [--rounds 3]

No model runs: this is what the decoders can hand to a device, with the copy into slots that the scorer makes. Rounds of one
and of several children alternate, and the ratio is that of their medians. Slots are those of 64 images, by tiles an image.
"""

import argparse
import io
import statistics
import time
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from PIL import Image

from models.maps.tiling import Tiling
from pipeline.decode.config import DecodeConfig
from pipeline.decode.tiles import InChild, TileBatch, TiledUnit
from pipeline.input.config import SourceConfig
from pipeline.input.encoded_rows import EncodedRows
from pipeline.scoring.tile_slots import in_slots

SIZE, SIDE, SLOTS = (5472, 3648), 768, 16
CONFIG = DecodeConfig(height=SIDE, width=SIDE, resize="tile", scale=0.25)
TILING = Tiling((SIDE, SIDE), (SIDE // 16, SIDE // 16))


def picture() -> bytes:
    """Smooth blobs with grain, 20 megapixels of JPEG."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 255, (228, 342, 3), dtype=np.uint8)).resize(SIZE, Image.Resampling.BICUBIC)
    levels = np.asarray(coarse).astype(np.int16) + rng.integers(-6, 6, (SIZE[1], SIZE[0], 1), dtype=np.int16)
    sink = io.BytesIO()
    Image.fromarray(levels.clip(0, 255).astype(np.uint8)).save(sink, "JPEG", quality=90)
    return sink.getvalue()


def unit(content: bytes, images: int) -> pa.Table:
    rows = EncodedRows("s3://b", SourceConfig(input_uri="s3://b"))
    for number in range(images):
        rows.add(f"{number}.jpg", content, None)
    return rows.table()


def images_per_s(table: pa.Table, children: list[InChild]) -> float:
    """The children have started before, with an image each."""
    warm = TiledUnit(table.slice(0, len(children)), CONFIG, TILING, SLOTS, children)
    list(warm.batches())
    clock = time.perf_counter()
    tiled = TiledUnit(table, CONFIG, TILING, SLOTS, children)
    found = sum(len(batch.used) for batch in in_slots(tiled.batches(), SLOTS))
    assert found == table.num_rows * len(TILING.grid((SIZE[1] // 4, SIZE[0] // 4)).origins)
    return table.num_rows / (time.perf_counter() - clock)


def shares(tiles: int, images: int = 64) -> tuple[float, float]:
    """Share of the slots that hold a tile: with batches of one image each, and as now."""
    grid = Tiling((4, 4), (4, 4), 0.0).grid((4, 4 * tiles))

    def parts() -> Iterator[TileBatch]:
        for position in range(images):
            for first in range(0, tiles, SLOTS):
                yield TileBatch(position, grid, np.zeros((min(SLOTS, tiles - first), 4, 4, 3), np.uint8))

    alone = sum(1 for _ in parts())
    shared = sum(1 for _ in in_slots(parts(), SLOTS))
    return images * tiles / (alone * SLOTS), images * tiles / (shared * SLOTS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--children", type=int, default=2)
    parser.add_argument("--images", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    print("tiles an image, share of slots used by batches of one image, by shared batches")
    for tiles in (1, 2, 6, 12, 17, 35, 130):
        print(f"{tiles}, {shares(tiles)[0]:.3f}, {shares(tiles)[1]:.3f}")
    table = unit(picture(), asked.images)
    children = [InChild(CONFIG, 120) for _ in range(asked.children)]
    rates: dict[int, list[float]] = {1: [], asked.children: []}
    for _ in range(asked.rounds):
        for count, found in rates.items():
            found.append(images_per_s(table, children[:count]))
    for child in children:
        child.close()
    one, several = (statistics.median(found) for found in rates.values())
    print(f"images/s with 1 child: {one:.2f}; with {asked.children}: {several:.2f}; ratio {several / one:.2f}")


if __name__ == "__main__":
    main()
