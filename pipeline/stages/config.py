"""What every stage of a scoring run needs to know, as plain values for workers."""

from dataclasses import dataclass

from pipeline.state.run_state import RunState
from pipeline.state.scoring_config import ScoringConfig


@dataclass(frozen=True)
class StageConfig:
    """One slice of one run, where the model and the device are, and how long one image may take to decode."""

    state: RunState
    slice: int
    scoring: ScoringConfig
    artifact_uri: str
    cache_dir: str
    device: str = "auto"
    threads: int | None = None
    decode_timeout_s: float = 60.0
