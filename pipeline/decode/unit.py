"""Decodes all images of a unit in this process: pixels, and a row for each image."""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from pipeline.decode.config import DecodeConfig
from pipeline.decode.exchange import DecodedRow
from pipeline.decode.faults import Undecodable, damaged
from pipeline.decode.image import Picture, decode_image
from schemas.commit import DECODED
from schemas.encoded import FAILURE, IDENTITY

SCHEMA = pa.schema([*IDENTITY, *DECODED, *FAILURE])


class Decoded(NamedTuple):
    """pixels: (N, H, W, 3) uint8 RGB, 0 where the row has an error.  table: N rows of `SCHEMA`, in unit order."""

    pixels: np.ndarray
    table: pa.Table


def decode_unit(table: pa.Table, config: DecodeConfig) -> Decoded:
    """Decode every row of schemas/encoded.py that holds an image; a bad image becomes a row with `stage=decode`.

    It does not do `tile`, where pixels.shape differs from image to image: see pipeline/decode/tiles.py.
    """
    assert config.resize != "tile"
    pixels = np.zeros((table.num_rows, config.height, config.width, 3), np.uint8)
    encoded = (cell.as_py() for cell in table["encoded"])
    return Decoded(pixels, decoded_table(table, list(decode_rows(encoded, pixels, config))))


def decode_rows(
    encoded: Iterable[bytes | memoryview | None],
    pixels: np.ndarray | list[np.ndarray | None],
    config: DecodeConfig,
    decode: Callable[[bytes, DecodeConfig], Picture] | None = None,
) -> Iterator[DecodedRow]:
    """Decode images one by one into `pixels`, (N, H, W, 3) or a list of N that keeps each in its own size; yields the row of
    each, an empty one for None."""
    for index, content in enumerate(encoded):
        if content is None:
            yield DecodedRow()
            continue
        try:
            picture = (decode or decode_image)(bytes(content), config)
        except Undecodable as fault:  # not kept: its traceback would keep `pixels`, which may be shared memory
            yield DecodedRow.undecodable(fault)
            continue
        except MemoryError as error:
            yield DecodedRow.undecodable(damaged("image", error))
            continue
        pixels[index] = picture.pixels
        yield DecodedRow.of(picture)


def decoded_table(table: pa.Table, rows: list[DecodedRow]) -> pa.Table:
    """`SCHEMA` rows: rows of the encoded table with what `decode_rows` says; faults of the read stage stay."""
    columns = []
    for column in SCHEMA:
        cells = [getattr(row, column.name, None) for row in rows]
        if column.name in table.column_names:
            earlier = table[column.name]
            cells = [new if new is not None else old.as_py() for new, old in zip(cells, earlier, strict=True)]
        columns.append(pa.array(cells, column.type))
    return pa.Table.from_arrays(columns, schema=SCHEMA)
