"""Reads and scores images with what their keys say: piece, view, lot, and the values of further keys."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch

from jobs.command.errors import ErrorShareError, UsageError
from jobs.command.progress import Progress
from jobs.images.good import EXTRACT_BATCH, Exclusions, Strays, thinned
from models.calibration.build import Scored
from models.calibration.calibration import Keys
from models.fitting.groups import thumbnails
from models.maps.map_scale import CellCounts
from models.roi.cells import pixels_inside
from models.roi.region import cells_inside
from models.verdicts.pieces import Images
from pipeline.decode.config import DecodeConfig
from pipeline.decode.geometry import placement
from pipeline.decode.tiles import InProcess, TiledUnit
from pipeline.decode.unit import decode_unit
from pipeline.in_process import EncodedUnits
from pipeline.input.archives import UNSUPPORTED
from pipeline.input.config import SourceConfig
from pipeline.scoring.scorer import Scorer, UnitScores

BETWEEN = "/"  # of the values that together name a piece; no value of a path holds one


class Named(NamedTuple):
    """What an image's keys say. lot: None where unknown.  size: of a defect.  take: which imaging of the piece it is of;
    both "" without such a key."""

    piece: str
    view: str
    lot: str | None
    by: tuple[str, ...]
    size: str = ""
    take: str = ""


class ScoredImage(NamedTuple):
    """One image. content_hash: None if it could not be read.  score: 0 and without meaning if not readable.
    thumbnail: its row of `ScoredSet.thumbs`; 0 and without meaning if there are none."""

    key: str
    uri: str
    member: str | None
    content_hash: str | None
    named: Named
    score: float
    readable: bool
    thumbnail: int = 0


@dataclass
class ScoredSet:
    """What was read. left_out: images that `leave_out` took, not scored.  maps: their sizes, cells.
    thumbs: thumbnails of the scored images, (T, 1024) float16.  repeats: images whose content was there before, not scored.
    cells: of the maps of images that were to be measured, where they show the image and count.
    """

    images: list[ScoredImage] = field(default_factory=list)
    left_out: list[ScoredImage] = field(default_factory=list)
    unreadable: Counter[str] = field(default_factory=Counter)
    maps: set[tuple[int, int]] = field(default_factory=set)
    thumbs: list[np.ndarray] = field(default_factory=list)
    cells: CellCounts = field(default_factory=CellCounts)
    excluded: int = 0
    ignored: int = 0
    repeats: int = 0


class KeyReader:
    """Reads pieces, views and lots from the keys of an input.

    size: key of a defect's size class.  every_lot: an image without the lot is refused.  pattern: the setting that reads
    keys from the path, for messages.  take: key that numbers the imagings of a piece.
    """

    def __init__(
        self,
        source: SourceConfig,
        keys: Keys,
        size: str | None = None,
        every_lot: bool = False,
        pattern: str = "--key-pattern",
        take: str | None = None,
    ) -> None:
        self._source, self._keys, self._size, self._take = source, keys, size, take
        self._every_lot, self._pattern = every_lot, pattern

    def __call__(self, row: dict) -> Named:
        """Raises UsageError for an image that lacks a key; a lot may be missing."""
        found = self._source.keys(row["key"]) | dict(row["keys"] or ()) | ({"lot": row["lot"]} if row["lot"] else {})

        def value(name: str, flag: str) -> str:
            if found.get(name) is None:
                fix = f"Correct {self._pattern} or choose another key: {row['key']} lacks it."
                raise UsageError(flag, f"a field of {self._pattern} that every image has", name, fix)
            return str(found[name])

        keys = self._keys
        piece = BETWEEN.join(value(name, "--piece-key") for name in keys.piece) if keys.piece else row["key"]
        return Named(
            piece,
            value(keys.view, "--view-key") if keys.view else "",
            value(keys.lot, "--group-key") if keys.lot and self._every_lot else found.get(keys.lot or ""),
            tuple(value(name, "--by") for name in keys.by),
            value(self._size, "--size-key") if self._size else "",
            value(self._take, "--repeat-key") if self._take else "",
        )


def check_keys(source: SourceConfig, read_keys: KeyReader) -> None:
    """Raises UsageError if an image lacks a key, among those that are read first; nothing is scored."""
    for table in Strays().left_out(EncodedUnits(source)):
        for row in table.drop_columns(["encoded"]).to_pylist():
            read_keys(row)
        if table.num_rows:
            return


def score_images(
    label: str,
    source: SourceConfig,
    scorer: Scorer,
    decode: DecodeConfig,
    read_keys: KeyReader,
    exclusions: Exclusions,
    leave_out: Callable[[str], bool] = lambda content_hash: False,
    once: bool = False,
    with_thumbs: bool = False,
    measured: Callable[[str], bool] = lambda content_hash: False,
) -> ScoredSet:
    """Score every image of the input, in the order of its keys; an unreadable one keeps its place, without a score.

    Args:
        leave_out: whether an image with this content is only counted.
        once: count an image whose content was there before, instead of scoring it.
        measured: whether the map of an image with this content counts in `cells`.
    Raises:
        UsageError: an image lacks a key, or a line of --exclude names no image.  ErrorShareError: an archive is not read.
    """
    found, units, strays = ScoredSet(), EncodedUnits(source), Strays()
    met: set[str] = set()
    with Progress(label, total=None) as progress:
        for table in strays.left_out(units):
            taken: list[int] = []
            for at, row in enumerate(table.drop_columns(["encoded"]).to_pylist()):
                content = row["content_hash"]
                if row in exclusions:
                    found.excluded += 1
                elif row["error"] == UNSUPPORTED:
                    raise ErrorShareError(
                        f"archives in the input must be of a kind that is read, since others may hold any number of images; "
                        f"got {row['key']!r} in {source.input_uri}. Unpack it, or name it in the file of --exclude"
                    )
                elif content is not None and leave_out(content):
                    named = read_keys(row)
                    found.left_out.append(ScoredImage(row["key"], row["uri"], row["member"], content, named, 0.0, False))
                elif once and content in met:
                    found.repeats += 1
                else:
                    taken.append(at)
                    met |= {content} if once and content is not None else set()
            if taken:
                progress.note(f"the next {len(taken):,} images")
                _add(found, table.take(pa.array(taken)), scorer, decode, read_keys, with_thumbs, measured)
            progress.update(done=len(found.images), errors=sum(found.unreadable.values()))
    exclusions.check_used()
    found.ignored = units.ignored + strays.count
    return found


def columns(images: list[ScoredImage]) -> Scored:
    """The images as a calibration takes them; a missing lot is ""."""
    return Scored(
        Images(
            np.array([image.named.piece for image in images], np.str_),
            np.array([image.named.view for image in images], np.str_),
            np.array([image.score for image in images], np.float32),
            np.array([image.readable for image in images], np.bool_),
        ),
        np.array([image.named.lot or "" for image in images], np.str_),
        [image.named.by for image in images],
        [image.uri for image in images],
        [image.member for image in images],
        [image.content_hash or "" for image in images],
    )


def _add(
    found: ScoredSet,
    table: pa.Table,
    scorer: Scorer,
    decode: DecodeConfig,
    read_keys: KeyReader,
    with_thumbs: bool,
    measured: Callable[[str], bool],
) -> None:
    for rows, result, thumbs in scores_of(table, scorer, decode, with_thumbs):
        finite = scorer.finite(result)
        for at, row in enumerate(rows):
            error = row["error"] or (None if finite[at] else "score_not_finite")
            named = read_keys(row)
            if error is not None:
                found.unreadable[error] += 1
                found.images.append(ScoredImage(row["key"], row["uri"], row["member"], row["content_hash"], named, 0.0, False))
                continue
            place = len(found.thumbs)
            found.thumbs += [thumbs[at]] if with_thumbs else []
            height, width = result.anomaly_map[at].shape
            found.maps.add((int(height), int(width)))
            if measured(row["content_hash"]):
                found.cells.add(counted_cells(row, result.anomaly_map[at], decode))
            score = float(result.score[at])
            found.images.append(
                ScoredImage(row["key"], row["uri"], row["member"], row["content_hash"], named, score, True, place)
            )


def counted_cells(row: dict, cells: np.ndarray, decode: DecodeConfig) -> np.ndarray:
    """Those of an image's map, (h, w), that show the image and count, in one dimension or two. row: of
    `pipeline.decode.unit.SCHEMA`."""
    place = placement((row["width"], row["height"]), decode)
    shown, counted = place.shown(cells), cells_inside(decode, (int(cells.shape[0]), int(cells.shape[1])))
    return shown if counted is None else shown[place.shown(counted)]


def scores_of(
    table: pa.Table, scorer: Scorer, decode: DecodeConfig, with_thumbs: bool
) -> Iterator[tuple[list[dict], UnitScores, np.ndarray]]:
    """Rows, results and thumbnails (N, 1024), as `score_encoded` computes them; images cut into tiles come one by one."""
    if scorer.tiling is None:
        decoded, inside = decode_unit(table, decode), pixels_inside(decode)
        small = [
            thumbnails(torch.from_numpy(decoded.pixels[start : start + EXTRACT_BATCH]), inside).astype(np.float16)
            for start in range(0, len(decoded.pixels) if with_thumbs else 0, EXTRACT_BATCH)
        ]
        thumbs = np.concatenate([np.zeros((0, 1024), np.float16), *small])
        yield decoded.table.drop_columns(["captured_at"]).to_pylist(), scorer(decoded.pixels), thumbs
        return
    decoder = InProcess(decode)
    for at in range(table.num_rows):
        tiled = TiledUnit(table.slice(at, 1), decode, scorer.tiling, scorer.batch_size, [decoder])
        result = scorer.by_tiles(tiled.batches(), tiled.count)
        rows = tiled.rows().drop_columns(["captured_at"]).to_pylist()
        readable = with_thumbs and rows[0]["error"] is None
        whole = thinned(decoder.image) if readable else np.zeros((1, 1, 3), np.uint8)
        yield rows, result, thumbnails(torch.from_numpy(whole.copy()[None])).astype(np.float16)
