"""Images of any source read, decoded and scored in this process, without Ray: for training, evaluation and measurements."""

from collections.abc import Iterable, Iterator
from itertools import groupby

import pyarrow as pa

from pipeline.decode.config import DecodeConfig
from pipeline.decode.tiles import InProcess, TiledUnit
from pipeline.decode.unit import Decoded, decode_unit
from pipeline.input import registry
from pipeline.input.config import SourceConfig, Start
from pipeline.scoring.scorer import Scorer, UnitScores
from pipeline.storage.store import Store, open_store
from schemas.plan import UnitContent


def encoded_units(source: SourceConfig) -> Iterator[pa.Table]:
    """Every image below the input, unit by unit, in key order, as rows of schemas/encoded.py."""
    store = open_store(source.input_uri)
    objects = (entry for entry in store.list() if registry.claiming(entry.key))
    for name, group in groupby(objects, key=lambda entry: registry.claiming(entry.key)):
        assert name is not None
        reader = registry.source(name)
        yield from read_units(reader.plan(group, source, store), source, store)


def read_units(units: Iterable[UnitContent], source: SourceConfig, store: Store) -> Iterator[pa.Table]:
    """Rows of schemas/encoded.py of every planned unit."""
    for unit in units:
        for part in registry.source(unit.source).read(unit, store, source, Start()):
            yield part.table


def decoded_units(source: SourceConfig, decode: DecodeConfig) -> Iterator[Decoded]:
    """The same decoded; images that cannot be read are rows with an error."""
    for table in encoded_units(source):
        yield decode_unit(table, decode)


def score_encoded(encoded: pa.Table, config: DecodeConfig, scorer: Scorer) -> tuple[pa.Table, UnitScores]:
    """Score at least one row of schemas/encoded.py; gives the `pipeline.decode.unit.SCHEMA` rows too."""
    if scorer.tiling is None:
        decoded = decode_unit(encoded, config)
        return decoded.table, scorer(decoded.pixels)
    tiled = TiledUnit(encoded, config, scorer.tiling, scorer.batch_size, InProcess(config))
    scores = scorer.by_tiles(tiled.batches(), tiled.count)
    return tiled.rows(), scores
