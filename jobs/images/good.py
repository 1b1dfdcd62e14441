"""Reads the good images for training once: pixels and features go to disk, the rest stays in memory."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import pyarrow as pa
import torch

from jobs.command.errors import ErrorShareError, UsageError, check_unreadable
from jobs.command.places import fix_of_nothing
from jobs.command.progress import Progress
from jobs.command.text_files import read_lines
from jobs.images.names import meant, plain, spellings
from models.config import ArtifactConfig, InputConfig
from models.features.store import ImageFeatures
from models.fitting.groups import thumbnails
from models.maps.content_box import Box, content_box
from models.maps.tiling import TileGrid
from models.roi.cells import pixels_inside
from pipeline.decode.config import DecodeConfig
from pipeline.decode.image import OTHER_SHAPE
from pipeline.decode.image_file import stores_16bit
from pipeline.decode.tiles import InProcess, TiledUnit
from pipeline.decode.unit import decode_unit
from pipeline.in_process import EncodedUnits, listed_bytes
from pipeline.input.archives import UNSUPPORTED
from pipeline.input.config import SourceConfig
from pipeline.input.listing import open_input
from pipeline.input.pictures import is_picture, named_as_picture
from pipeline.scoring.scorer import tiling

MIN_IMAGES = 8
EXTRACT_BATCH = 16
QUARTER = 64  # of the 256 levels


class Exclusions:
    """The images that a person has excluded: one key, URI or content hash a line; # starts a comment."""

    def __init__(self, path: Path | None):
        self._lines: dict[str, str] = {}
        if path is not None:
            for line in read_lines("--exclude", path):
                self._lines |= dict.fromkeys(spellings(line), line)
        self._used: set[str] = set()
        self._keys: set[str] = set()

    def __contains__(self, row: dict) -> bool:
        if not self._lines:
            return False
        self._keys.add(row["key"])
        names = {plain(row[column]) for column in ("key", "uri", "content_hash") if row[column] is not None}
        found = {self._lines[name] for name in names & self._lines.keys()}
        self._used |= found
        return bool(found)

    def check_used(self) -> None:
        """Raises UsageError for lines that matched no image, which mostly are misspelt."""
        unused = [line for line in dict.fromkeys(self._lines.values()) if line not in self._used]
        if unused:
            rule = "a list in which every line names an image of the input"
            fix = f"Correct or remove {meant(unused, self._keys)}."
            raise UsageError(
                "--exclude", rule, f"{len(unused):,} of {len(set(self._lines.values())):,} lines that name none", fix
            )


@dataclass
class GoodSet:
    """What training keeps of the good images beside pixels and features, in key order.

    owners: the image of every sample in the features, (S,) int64. An image is one sample, or one for each of its tiles.
    sizes: width and height of every stored image, (N, 2) int64, px.
    """

    hashes: list[str]
    group_keys: list[str | None]
    thumbs: np.ndarray
    unreadable: Counter[str]
    excluded: int
    owners: np.ndarray
    sizes: np.ndarray

    def boxes(self, config: InputConfig) -> list[Box] | None:
        """The part of every sample that shows the picture; None: all of each."""
        if config.resize != "pad":
            return None
        return [content_box((int(width), int(height)), config) for width, height in self.sizes[self.owners]]

    def state(self) -> dict[str, Any]:
        """As models/state_file.py keeps it."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def of_state(cls, state: dict[str, Any]) -> Self:
        return cls(**{**state, "unreadable": Counter(state["unreadable"])})

    def samples(self, images: np.ndarray) -> np.ndarray:
        """Positions of these images' samples, int64, ascending."""
        return np.flatnonzero(np.isin(self.owners, images))

    def pieces(self, images: np.ndarray, group_key: str | None) -> list[str]:
        """The piece that each image shows: what --group-key names, else the image, since lots and near-duplicates join many."""
        return [str(i) if group_key is None else str(self.group_keys[i]) for i in images]


class Part(NamedTuple):
    """Some images. rows: of `pipeline.decode.unit.SCHEMA`.  pixels: their samples, (S, H, W, 3) uint8.  owners: the row of
    each sample, (S,).  whole: each row's image, (N, h, w, 3) uint8, perhaps thinned out.  deep: whether each row's file stores
    16 bits a sample, (N,) bool.  share: of what was read at once, up to the last of these images."""

    rows: list[dict]
    pixels: np.ndarray
    owners: np.ndarray
    whole: np.ndarray
    deep: np.ndarray
    share: float


def read_good_images(
    source: SourceConfig,
    images: ImageFeatures,
    exclusions: Exclusions,
    group_key: str | None,
    max_unreadable_share: float,
    tiles_per_image: int = 16,
    seed: int = 0,
) -> GoodSet:
    """Read every image once and add it to `images`; unreadable ones are counted and left out.

    Files that are pictures neither by name nor by content are counted apart from unreadable images. An image that is scored
    by tiles adds at most `tiles_per_image` of them, drawn with the seed.

    Raises:
        ErrorShareError: too many images could not be read, or an archive is not read.
        UsageError: too few images, images without the group key, or a line of --exclude that names no image.
    """
    read = GoodSet([], [], np.zeros((0, 1024), np.float16), Counter(), 0, np.zeros(0, np.int64), np.zeros((0, 2), np.int64))
    thumbs: list[np.ndarray] = []
    owners: list[np.ndarray] = []
    sizes: list[tuple[int, int]] = []
    total = 0
    brightest: int | None = None  # level in the images of 16 bits
    units, strays = EncodedUnits(source), Strays()
    inside = pixels_inside(images.detector.config.input)
    archives: list[str] = []
    before, begun = 0, 0.0  # bytes of earlier reads, and the share of the current one
    with Progress("reading", total=None) as progress:
        progress.note("listing the input")
        size = listed_bytes(source)
        progress.note("waiting for the first images")
        for part in parts_of(strays.left_out(units), images.detector.config, tiles_per_image, seed):
            first = len(read.hashes)
            keep: list[int] = []
            for position, row in enumerate(part.rows):
                total += 1
                if row in exclusions:  # readable or not
                    read.excluded += 1
                elif row["error"] == UNSUPPORTED:
                    archives.append(row["key"])
                elif row["error"] == OTHER_SHAPE and not read.hashes and not keep:
                    fix = f"{row['key']}: {row['message']}. Draw the mask on one of the images."
                    raise UsageError("--roi", "a mask image of the images' aspect ratio", _size(images), fix)
                elif row["error"] is not None:
                    read.unreadable[row["error"]] += 1
                else:
                    keep.append(position)
                    read.hashes.append(row["content_hash"])
                    sizes.append((row["width"], row["height"]))
                    keys = source.keys(row["key"]) | dict(row["keys"]) | {"lot": row["lot"]}
                    read.group_keys.append(keys.get(group_key or "lot"))
            kept = np.flatnonzero(np.isin(part.owners, keep))
            owners.append(first + np.searchsorted(keep, part.owners[kept]))
            deep = part.pixels[kept[part.deep[part.owners[kept]]]]
            brightest = max(brightest or 0, int(deep.max())) if len(deep) else brightest
            unreadable = sum(read.unreadable.values())
            for start in range(0, len(kept), EXTRACT_BATCH):
                chosen = kept[start : start + EXTRACT_BATCH]
                images.append(torch.from_numpy(part.pixels[chosen]))
                done = first + int(np.searchsorted(keep, part.owners[chosen[-1]])) + 1
                share = begun + (part.share - begun) * (start + len(chosen)) / len(kept)
                progress.update(done, unreadable, fraction=_fraction(before + share * (units.bytes_read - before), size))
            for start in range(0, len(keep), EXTRACT_BATCH):
                whole = torch.from_numpy(part.whole[keep[start : start + EXTRACT_BATCH]])
                thumbs.append(thumbnails(whole, inside).astype(np.float16))
            before, begun = (units.bytes_read, 0.0) if part.share == 1 else (before, part.share)
            progress.note("waiting for further images")
        progress.update(len(read.hashes), sum(read.unreadable.values()), total=len(read.hashes))
    exclusions.check_used()
    if archives:
        raise ErrorShareError(
            f"archives in the input must be of a kind that is read, since others may hold any number of images; "
            f"got {archives[0]!r} among {len(archives)} in {source.input_uri}. Unpack it, or name it in the file of --exclude"
        )
    check_unreadable(read.unreadable, total, max_unreadable_share, source.input_uri)
    if len(read.hashes) < MIN_IMAGES:
        otherwise = "Add good images." if total else "Correct the place: it holds no images."
        fix = fix_of_nothing(open_input(source), otherwise)
        raise UsageError("--input", f"a place with at least {MIN_IMAGES} readable good images", len(read.hashes), fix)
    if group_key and None in read.group_keys:
        raise UsageError(
            "--group-key",
            "a field of --key-pattern that every image has",
            group_key,
            f"Correct --key-pattern or choose another key: {read.group_keys.count(None)} of {total} images lack it.",
        )
    if ignored := units.ignored + strays.count:
        example = f", such as {strays.example}" if strays.example else ""
        print(f"ignored: {ignored} files that are no images or were not asked for{example}")
    if read.unreadable:
        print("not readable, left out: " + ", ".join(f"{n} {reason}" for reason, n in read.unreadable.most_common()))
    if brightest is not None and brightest < QUARTER:
        print(
            f"16-bit images use less than a quarter of their range (the brightest pixel is {brightest} of 255): "
            "if they hold 12 bits a sample, set --white-level 4095"
        )
    read.thumbs, read.owners, read.sizes = np.concatenate(thumbs), np.concatenate(owners), np.array(sizes, np.int64)
    return read


def _size(images: ImageFeatures) -> str:
    roi = images.detector.config.input.roi
    return "none" if roi is None else f"{roi.width} x {roi.height} pixels"


def _fraction(done: float, size: int) -> float:
    """The share of the bytes that is read, below 1: the last part of an archive may hold no image."""
    return min(done / max(1, size), 0.999)


class Strays:
    """Counts files that are pictures neither by name nor by content, such as a manual, a table or a note."""

    def __init__(self) -> None:
        self.count, self.example = 0, ""

    def left_out(self, tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
        """The tables, of schemas/encoded.py, without the rows of such files."""
        for table in tables:
            names, contents = table["key"].to_pylist(), table["encoded"]
            kept = [  # an image is copied only if its name does not tell
                named_as_picture(name) or is_picture(name, content.as_py())
                for name, content in zip(names, contents, strict=True)
            ]
            if not all(kept):
                self.count += kept.count(False)
                self.example = names[kept.index(False)]
                table = table.filter(pa.array(kept))
            yield table


def parts_of(tables: Iterable[pa.Table], config: ArtifactConfig, tiles_per_image: int, seed: int) -> Iterator[Part]:
    """The images unit by unit, or one by one if they are cut into tiles."""
    decode = DecodeConfig.of(config.input)
    cut = tiling(config)
    if cut is None:
        for table in tables:
            unit = decode_unit(table, decode)
            rows = unit.table.drop_columns(["captured_at"]).to_pylist()
            yield Part(rows, unit.pixels, np.arange(len(rows)), unit.pixels, _deep(table, rows), 1.0)
        return
    decoder = InProcess(decode)
    for table in tables:
        for number in range(table.num_rows):
            image = table.slice(number, 1)
            draw = partial(_draw, tiles_per_image, seed, image["content_hash"][0].as_py())
            unit_of_one = TiledUnit(image, decode, cut, EXTRACT_BATCH, [decoder], draw)
            tiles = [batch.pixels for batch in unit_of_one.batches()]
            rows = unit_of_one.rows().drop_columns(["captured_at"]).to_pylist()
            pixels = np.concatenate([np.zeros((0, decode.height, decode.width, 3), np.uint8), *tiles])
            whole = thinned(decoder.image) if tiles else np.zeros((1, 1, 3), np.uint8)
            share = (number + 1) / table.num_rows
            yield Part(rows, pixels, np.zeros(len(pixels), np.int64), whole[None], _deep(image, rows), share)


def _deep(table: pa.Table, rows: list[dict]) -> np.ndarray:
    """Whether each row's image was decoded and its file stores 16 bits a sample, (N,) bool."""
    encoded = zip(table["encoded"], rows, strict=True)
    return np.array([row["error"] is None and stores_16bit(cell.as_py()) for cell, row in encoded], bool)


def _draw(most: int, seed: int, content_hash: str, position: int, grid: TileGrid) -> np.ndarray:
    """Numbers of at most `most` tiles, ascending. They depend on the image's content, not on its place."""
    count = len(grid.origins)
    rng = np.random.default_rng([seed, int(content_hash[:16], 16)])
    return np.sort(rng.choice(count, min(most, count), replace=False))


def thinned(image: np.ndarray) -> np.ndarray:
    """The image with its shorter side thinned to at most about 1,000 px, which is enough for a thumbnail."""
    step = max(1, min(image.shape[:2]) // 512)
    return image[::step, ::step]
