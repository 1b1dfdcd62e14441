"""A unit's encoded images decoded and scored in one process, without Ray: for evaluation and measurements."""

import pyarrow as pa

from pipeline.decode.image import DecodeConfig, decode_unit
from pipeline.decode.tiles import InProcess, TiledUnit
from pipeline.scoring.scorer import Scorer, UnitScores


def score_encoded(encoded: pa.Table, config: DecodeConfig, scorer: Scorer) -> tuple[pa.Table, UnitScores]:
    """Score at least one row of schemas/encoded.py; gives the `pipeline.decode.image.SCHEMA` rows too."""
    if scorer.tiling is None:
        decoded = decode_unit(encoded, config)
        return decoded.table, scorer(decoded.pixels)
    tiled = TiledUnit(encoded, config, scorer.tiling, scorer.batch_size, InProcess(config))
    scores = scorer.by_tiles(tiled.batches(), tiled.count)
    return tiled.rows(), scores
