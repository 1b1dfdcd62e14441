"""Reads, decodes and scores images of any source in this process, without Ray: for training, evaluation and measurements."""

from collections.abc import Iterator

import pyarrow as pa

from pipeline.decode.config import DecodeConfig
from pipeline.decode.tiles import InProcess, TiledUnit
from pipeline.decode.unit import decode_unit
from pipeline.input.config import SourceConfig
from pipeline.input.listed_parts import listed_parts
from pipeline.input.listing import Listing, open_input
from pipeline.scoring.scorer import Scorer, UnitScores


class EncodedUnits:
    """Every image below the input, unit by unit, in key order, as rows of schemas/encoded.py; no unit is empty.

    ignored: objects and shard members seen so far that are not images or not asked for; final after the last unit.
    bytes_read: fetched for the units so far, the last one included.
    """

    def __init__(self, source: SourceConfig) -> None:
        self._source = source
        self.ignored = self.bytes_read = 0

    def __iter__(self) -> Iterator[pa.Table]:
        self.ignored = self.bytes_read = 0
        store = open_input(self._source)
        listing = Listing(self._source, store)
        for part in listed_parts(listing, self._source, store):
            self.ignored += part.ignored
            self.bytes_read += part.bytes_read
            if part.table.num_rows:  # a shard of sidecars only is one part without rows
                yield part.table
        self.ignored += listing.ignored


def listed_bytes(source: SourceConfig) -> int:
    """What the objects of the input have together, by storage's word; they are listed, not read."""
    return sum(entry.size for entry in Listing(source, open_input(source)))


def encoded_units(source: SourceConfig) -> Iterator[pa.Table]:
    """The tables of EncodedUnits, without the count of what was ignored."""
    return iter(EncodedUnits(source))


def score_encoded(encoded: pa.Table, config: DecodeConfig, scorer: Scorer) -> tuple[pa.Table, UnitScores]:
    """Score at least one row of schemas/encoded.py; also returns the `pipeline.decode.unit.SCHEMA` rows."""
    if scorer.tiling is None:
        decoded = decode_unit(encoded, config)
        return decoded.table, scorer(decoded.pixels)
    tiled = TiledUnit(encoded, config, scorer.tiling, scorer.batch_size, [InProcess(config)])
    scores = scorer.by_tiles(tiled.batches(), tiled.count)
    return tiled.rows(), scores
