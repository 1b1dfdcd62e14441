"""Second stage: decoded units in, scored units out, in the process that owns the device.

Units that are scored by tiles come encoded: a large picture is decoded beside the device, and only its tiles are ever copied.
"""

import contextlib
import math
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from pipeline.decode.tiles import InChild, TiledUnit
from pipeline.scoring.idle import IdleClock
from pipeline.stages.ahead import ahead
from pipeline.stages.config import StageConfig
from pipeline.stages.envelope import envelope, nothing_to_score, pack, pack_explanations, pack_maps, unpack
from pipeline.storage.copies import local_copy
from pipeline.storage.objects import StorageError

if TYPE_CHECKING:
    from pipeline.scoring.scorer import Scorer, UnitScores

AHEAD_BYTES = 32 << 20
"""Tiles that wait for the scorer: so much is decoded while it computes."""


class ScoreStage:
    """The GPU (or CPU) stage: decoded envelopes in, scored envelopes out. One instance an actor.

    It is called from several threads, so that the device works on one unit while another is unpacked or packed, and so that the
    last batches of a unit leave no core idle. The model is loaded at once, while the first unit is read; torch comes with it,
    so that the driver, which only names this class, does without.
    """

    CALLS = 2

    def __init__(self, config: StageConfig) -> None:
        self._config = config
        self._decode = config.scoring.decode
        self._shape = (self._decode.height, self._decode.width, 3)
        self._decoder = InChild(self._decode, config.decode_timeout_s)
        self._loading, self._tiling = threading.Lock(), threading.Lock()
        self._loaded: Scorer | None = None
        self._idle = IdleClock(self.CALLS)
        with contextlib.suppress(StorageError):  # the first unit asks again, and says why it stays open
            self._scorer()

    def __call__(self, unit: pa.Table) -> pa.Table:
        if nothing_to_score(unit):
            return unit
        try:
            with self._idle.unit() as idle_s:
                columns = self._scored(unit)
        except StorageError as error:
            return envelope(number=unit["number"][0].as_py(), part=unit["part"][0].as_py(), message=str(error))
        return envelope(**columns, **{f"{cause}_s": seconds for cause, seconds in idle_s.items()})

    def _scored(self, unit: pa.Table) -> dict[str, object]:
        """The columns of the scored envelope."""
        scorer = self._scorer()
        columns = {name: unit[name][0].as_py() for name in unit.column_names if name not in ("pixels", "rows")}
        rows, scores, decode = self._tiles(unit, scorer) if scorer.tiling is not None else self._pixels(unit, scorer)
        columns |= decode
        if scores is not None:
            columns |= {
                "finite": scorer.finite(scores).tobytes(),
                "scores": scores.score.tobytes(),
                "embeddings": scores.embedding.tobytes(),
                "map_threshold": scorer.map_threshold,
                **pack_maps(scores.anomaly_map),
                **pack_explanations(scores.explanations, scorer.explain.method if scorer.explain else None),
            }
        score_s, copy_s = (scores.device_s, scores.copy_s) if scores is not None else (0.0, 0.0)
        return columns | {"rows": rows, "device": scorer.label, "score_s": score_s, "copy_s": copy_s}

    def _scorer(self) -> "Scorer":
        """When storage does not give the model, the unit that asked stays open and the next asks again."""
        with self._loading:
            if self._loaded is None:
                config = self._config
                with self._idle.loading():
                    from pipeline.scoring.scorer import open_scorer

                    directory = local_copy(config.artifact_uri, Path(config.cache_dir))
                    self._loaded = open_scorer(directory, config.device, config.threads, config.scoring.explain, self._idle)
            return self._loaded

    def _pixels(self, unit: pa.Table, scorer: "Scorer") -> tuple[pa.Buffer, "UnitScores | None", dict[str, float]]:
        """The unit's rows, its scores unless it is empty, and nothing to add."""
        pixels = np.frombuffer(unit["pixels"][0].as_buffer(), np.uint8).reshape(-1, *self._shape)  # (N, H, W, 3)
        return unit["rows"][0].as_buffer(), scorer(pixels) if len(pixels) else None, {}

    def _tiles(self, unit: pa.Table, scorer: "Scorer") -> tuple[bytes, "UnitScores | None", dict[str, float]]:
        """The same of a unit that comes encoded, and how long decoding took. One at a time: the decoder has one picture."""
        assert scorer.tiling is not None
        size = scorer.batch_size
        with self._tiling:
            tiled = TiledUnit(unpack(unit["rows"][0]), self._decode, scorer.tiling, size, self._decoder)
            batches = ahead(tiled.batches(), max(1, AHEAD_BYTES // (size * math.prod(self._shape))))
            scores = scorer.by_tiles(batches, tiled.count)
        return pack(tiled.rows()), scores if tiled.count else None, {"decode_s": tiled.decode_s}
