"""Second stage: decoded units in, scored units out, in the process that owns the device."""

import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.envelope import envelope, left_open
from pipeline.scorer import Scorer
from pipeline.stage_config import StageConfig
from pipeline.storage import local_copy


class ScoreStage:
    """The GPU (or CPU) stage: decoded envelopes in, scored envelopes out. One instance an actor."""

    def __init__(self, config: StageConfig) -> None:
        directory = local_copy(config.artifact_uri, Path(config.cache_dir))
        self._scorer = Scorer(directory, config.device, config.threads)
        self._shape = (config.scoring.decode.height, config.scoring.decode.width, 3)

    def __call__(self, unit: pa.Table) -> pa.Table:
        if left_open(unit):
            return unit
        clock = time.perf_counter()
        payload = unit["pixels"][0].as_buffer()
        pixels = np.frombuffer(payload, np.uint8).reshape(-1, *self._shape)  # (N, H, W, 3)
        columns = {name: unit[name][0].as_py() for name in unit.column_names if name not in ("pixels", "rows")}
        if len(pixels):
            scores = self._scorer(pixels)
            columns |= {
                "finite": self._scorer.finite(scores).tobytes(),
                "scores": scores.score.tobytes(),
                "maps": scores.anomaly_map.tobytes(),
                "embeddings": scores.embedding.tobytes(),
                "map_shape": list(scores.anomaly_map.shape[1:]),
                "map_threshold": self._scorer.map_threshold,
            }
        return envelope(
            **columns,
            rows=unit["rows"][0].as_buffer(),
            device=self._scorer.label,
            score_s=time.perf_counter() - clock,
        )
