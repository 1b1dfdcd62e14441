"""What every stage of a scoring run needs to know, as plain values for workers."""

from dataclasses import dataclass

from pipeline.scoring.device import Device
from pipeline.state.ledger import Ledger
from pipeline.state.scoring_config import ScoringConfig


@dataclass(frozen=True)
class StageConfig:
    """One slice of a ledger, where the model is, and how long one image may take to decode.

    device, gpu_share, threads: what a scorer has, as `Resources.given` says: the device that the driver decided for, of a GPU
    the share, 0 < gpu_share <= 1, and of a CPU the threads.
    tile_decoders: children of a scorer that decode images to be cut into tiles; None: as many as stages/tile_children.py says.
    """

    ledger: Ledger
    slice: int
    scoring: ScoringConfig
    artifact_uri: str
    cache_dir: str
    device: Device = "cpu"
    gpu_share: float = 1.0
    threads: int | None = None
    decode_timeout_s: float = 60.0
    tile_decoders: int | None = None
