"""What every stage of a scoring run needs to know, as plain values for workers."""

from dataclasses import dataclass

from pipeline.state.ledger import Ledger
from pipeline.state.scoring_config import ScoringConfig


@dataclass(frozen=True)
class StageConfig:
    """One slice of a ledger, where the model and the device are, and how long one image may take to decode.

    tile_decoders: children of a scorer that decode images to be cut into tiles, at most one for each core of its machine.
    """

    ledger: Ledger
    slice: int
    scoring: ScoringConfig
    artifact_uri: str
    cache_dir: str
    device: str = "auto"
    threads: int | None = None
    decode_timeout_s: float = 60.0
    tile_decoders: int = 1
