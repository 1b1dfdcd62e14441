"""How many images an input has, and how long one takes to read, known from its listing and its first images."""

import time
from typing import NamedTuple

from jobs.images.good import Part, Strays, parts_of
from models.config import ArtifactConfig
from pipeline.decode.config import DecodeConfig
from pipeline.decode.geometry import tiled_size
from pipeline.in_process import EncodedUnits
from pipeline.input import registry
from pipeline.input.config import SourceConfig
from pipeline.input.listing import Listing, open_input
from pipeline.input.pictures import named_as_picture
from pipeline.scoring.scorer import tiling

FEW, FEW_TO_CUT = 16, 4


class FirstImages(NamedTuple):
    """images: of the whole input; exact if all of them are loose, named as pictures and readable. samples: of all these, more
    than one each where they are cut into tiles. read_s: seconds to fetch and decode one; fetch_s: to fetch it.  unit_bytes:
    memory that a unit of them takes while it is read.  tiles: into which one is cut; 0 where images are not."""

    images: int
    samples: int
    read_s: float
    unit_bytes: int
    fetch_s: float = 0.0
    tiles: float = 0.0


def first_images(source: SourceConfig, config: ArtifactConfig, tiles_per_image: int, seed: int) -> FirstImages | None:
    """Reads the first unit, and decodes its first images; None if none of those can be read."""
    begun = time.monotonic()
    units = Strays().left_out(EncodedUnits(source))
    table = next((table for table in units if table.num_rows), None)
    if table is None:
        return None
    fetch_s = (time.monotonic() - begun) / table.num_rows
    few = table.slice(0, FEW if config.input.resize != "tile" else FEW_TO_CUT)
    list(parts_of([few.slice(0, 1)], config, tiles_per_image, seed))  # loads the decoders
    begun = time.monotonic()
    parts = list(parts_of([few], config, tiles_per_image, seed))
    decode_s = (time.monotonic() - begun) / few.num_rows
    read = sum(row["error"] is None for part in parts for row in part.rows)
    if not read:
        return None
    encoded = sum(len(each.as_py() or b"") for each in table["encoded"])
    images = max(table.num_rows, _count(source, encoded / table.num_rows))
    samples = sum(len(part.pixels) for part in parts) / read
    pixels = sum(part.pixels.nbytes + part.whole.nbytes for part in parts) / read
    at_once = table.num_rows if config.input.resize != "tile" else 1
    unit_bytes = round(2 * encoded + at_once * pixels)
    return FirstImages(images, round(images * samples), fetch_s + decode_s, unit_bytes, fetch_s, _tiles(parts, config) / read)


def _tiles(parts: list[Part], config: ArtifactConfig) -> int:
    """All tiles of the readable images."""
    cut, decode = tiling(config), DecodeConfig.of(config.input)
    if cut is None:
        return 0
    sizes = [tiled_size((row["width"], row["height"]), decode) for part in parts for row in part.rows if row["error"] is None]
    return sum(len(cut.grid((height, width)).origins) for width, height in sizes)


def _count(source: SourceConfig, encoded_bytes: float) -> int:
    """Loose files that are named as pictures, or have no suffix; and shards by their size, each image as large as the first."""
    loose = shard_bytes = 0
    for entry in Listing(source, open_input(source)):
        if registry.claiming(entry.key) != registry.LAST:
            shard_bytes += entry.size
        elif named_as_picture(entry.key) or "." not in entry.key.rpartition("/")[2]:
            loose += 1
    return loose + round(shard_bytes / max(1.0, encoded_bytes))
