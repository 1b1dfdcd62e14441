"""Gives the images of a unit, one after the other, as batches of tiles: only decoders ever hold whole pictures, one each.

A picture stays where it was decoded. Tiles are copied out of it some at a time, so the batch, not the size of the image,
bounds what crosses to the scorer. With several decoders the next images are decoded while one is used; the order stays.
"""

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from itertools import chain, cycle
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
import pyarrow as pa

from models.maps.tiling import TileGrid, Tiling
from pipeline.decode.config import DecodeConfig
from pipeline.decode.exchange import DecodedRow
from pipeline.decode.geometry import cut_tiles, tiled_size
from pipeline.decode.handle import Decoder, Lost
from pipeline.decode.process import DECODE, KILLED_TRIES
from pipeline.decode.unit import decode_rows, decoded_table
from pipeline.storage.ahead import ahead, in_order

Answer = TypeVar("Answer")

PARTS_AHEAD = 1
"""Batches of an image that are cut while the images before it are used."""


class TileBatch(NamedTuple):
    """Consecutive tiles of one image, at most a batch, in the order of its grid.

    position: position of the image in its unit.  pixels: (n, H, W, 3) uint8.
    """

    position: int
    grid: TileGrid
    pixels: np.ndarray


class TileDecoder(Protocol):
    """Decodes one image after the other and cuts tiles of the last one."""

    def open(self, encoded: pa.Buffer) -> DecodedRow:
        """The row of the image, as `decode_rows` gives it."""

    def tiles(self, origins: list[tuple[int, int]], last: bool) -> np.ndarray | DecodedRow:
        """Tiles (n, H, W, 3) uint8 at (top, left) px, or the fault that ended the image. last: no more will be asked for."""


class InProcess:
    """Decodes in this process, for training and evaluation."""

    def __init__(self, config: DecodeConfig) -> None:
        self._config = config
        self._kept: list[np.ndarray | None] = [None]

    @property
    def image(self) -> np.ndarray:
        """The last opened image, (H, W, 3) uint8, of its own size."""
        image = self._kept[0]
        assert image is not None
        return image

    def open(self, encoded: pa.Buffer) -> DecodedRow:
        self._kept[0] = None
        (row,) = decode_rows([encoded.to_pybytes()], self._kept, self._config)
        return row

    def tiles(self, origins: list[tuple[int, int]], last: bool) -> np.ndarray:
        size = self._config.height, self._config.width
        tiles = np.empty((len(origins), *size, 3), np.uint8)
        cut_tiles(self.image, origins, size, tiles)
        return tiles


class InChild:
    """Decodes in a child process, which ends with this one; an image that kills or hangs the child gets a fault.

    A child killed from outside, mostly when memory runs out, is replaced, and the new one decodes the image again. `decode`
    (`module:function`) is for tests.
    """

    def __init__(self, config: DecodeConfig, timeout_s: float, decode: str = DECODE) -> None:
        self._config, self._timeout_s, self._decode = config, timeout_s, decode
        self._decoder: Decoder | None = None
        self._holder: Decoder | None = None  # the child that has the image
        self._encoded = pa.py_buffer(b"")
        self._killed = 0

    def open(self, encoded: pa.Buffer) -> DecodedRow:
        self._encoded, self._holder, self._killed = encoded, None, 0
        return self._tried(self._open)

    def tiles(self, origins: list[tuple[int, int]], last: bool) -> np.ndarray | DecodedRow:
        def cut(decoder: Decoder) -> np.ndarray | DecodedRow | Lost:
            if decoder is not self._holder:
                row = self._open(decoder)
                if isinstance(row, Lost) or row.error is not None:
                    return row
            return decoder.tiles(origins, self._config, self._timeout_s, last)

        return self._tried(cut)

    def close(self) -> None:
        """End the child."""
        if self._decoder is not None and self._decoder.usable():
            self._decoder.end()

    def _open(self, decoder: Decoder) -> DecodedRow | Lost:
        row = decoder.open(self._encoded, self._config, self._timeout_s)
        self._holder = decoder
        return row

    def _tried(self, ask: Callable[[Decoder], Answer | Lost]) -> Answer | DecodedRow:
        while True:
            if self._decoder is None or not self._decoder.usable():
                self._decoder = Decoder(self._decode, self._config.max_decode_bytes)
            answer = ask(self._decoder)
            if not isinstance(answer, Lost):
                return answer
            self._killed += answer.by_kill
            if not answer.by_kill or self._killed == KILLED_TRIES:
                error = "decoder_timeout" if answer.by_timeout else "decoder_crashed"
                return DecodedRow.failed(error, answer.message)


class TiledUnit:
    """A unit that is scored by tiles.

    Args:
        table: schemas/encoded.py.
        batch: most tiles in a batch, which never holds tiles of two images.
        decoders: each has one image at a time. One decodes in the caller's thread; several have a thread each.
        chosen: gives the numbers of the tiles to take, ascending, for an image at this position with this grid; default all.
    """

    def __init__(
        self,
        table: pa.Table,
        config: DecodeConfig,
        tiling: Tiling,
        batch: int,
        decoders: Sequence[TileDecoder],
        chosen: Callable[[int, TileGrid], np.ndarray] = lambda position, grid: np.arange(len(grid.origins)),
    ) -> None:
        self._table, self._config, self._tiling, self._batch, self._decoders = table, config, tiling, batch, decoders
        self._chosen = chosen
        self._rows = [DecodedRow()] * table.num_rows
        self._seconds = [0.0] * table.num_rows
        self.count = table.num_rows

    @property
    def decode_s(self) -> float:
        """Seconds of all decoders together."""
        return sum(self._seconds)

    def batches(self) -> Generator[TileBatch]:
        """The tiles of every image that can be decoded; an image that fails half way ends early."""
        images = ((position, cell.as_buffer()) for position, cell in enumerate(self._table["encoded"]) if cell.is_valid)
        if len(self._decoders) == 1:
            for position, encoded in images:
                yield from self._image(position, encoded, self._decoders[0])
            return
        free = cycle(self._decoders)  # the image that it had is used up when `in_order` begins the next
        # an abandoned iteration waits until no thread is at an image, then drops what was cut of it
        with ExitStack() as begun, ThreadPoolExecutor(len(self._decoders), "tiles") as pool:

            def begin(image: tuple[int, pa.Buffer]) -> _Begun:
                parts = ahead(self._image(*image, next(free)), PARTS_AHEAD)
                begun.callback(parts.close)
                return _Begun(pool.submit(next, parts, None), parts)

            for first, parts in in_order(
                begin, images, lambda image: (image.first.result(), image.rest), len(self._decoders) - 1
            ):
                if first is not None:
                    yield from chain([first], parts)

    def rows(self) -> pa.Table:
        """`pipeline.decode.unit.SCHEMA` rows, after the last batch."""
        return decoded_table(self._table, self._rows)

    def _image(self, position: int, encoded: pa.Buffer, decoder: TileDecoder) -> Generator[TileBatch]:
        clock = time.perf_counter()
        row = self._rows[position] = decoder.open(encoded)
        self._seconds[position] += time.perf_counter() - clock
        if row.error is not None:
            return
        assert row.width is not None and row.height is not None
        width, height = tiled_size((row.width, row.height), self._config)
        grid = self._tiling.grid((height, width))
        origins = grid.origins[self._chosen(position, grid)].tolist()
        for first in range(0, len(origins), self._batch):
            clock = time.perf_counter()
            tiles = decoder.tiles(origins[first : first + self._batch], first + self._batch >= len(origins))
            self._seconds[position] += time.perf_counter() - clock
            if isinstance(tiles, DecodedRow):
                self._rows[position] = tiles
                return
            yield TileBatch(position, grid, tiles)


class _Begun(NamedTuple):
    """An image that a decoder is at. first: its first batch, None without one.  rest: its other batches."""

    first: Future[TileBatch | None]
    rest: Iterator[TileBatch]
