"""Second stage: turns decoded units into scored units, in the process that owns the device.

Units that are scored by tiles arrive encoded: large pictures are decoded beside the device, and only tiles are ever copied.
"""

import contextlib
import math
import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from models.faults import ModelError
from pipeline.decode.children import Children
from pipeline.decode.tiles import TiledUnit
from pipeline.scoring.faults import ScoringError
from pipeline.scoring.idle import IdleClock
from pipeline.scoring.watchdog import LONG_S, over
from pipeline.stages.config import StageConfig
from pipeline.stages.envelope import pack_results
from pipeline.stages.given_device import take_given_device
from pipeline.stages.place import Place
from pipeline.storage.ahead import ahead
from pipeline.storage.copies import local_copy
from pipeline.storage.objects import StorageError
from schemas.envelope import DecodedUnit, ScoredUnit
from schemas.outcome import Outcome
from schemas.scored_on import ScoredOn

if TYPE_CHECKING:
    from pipeline.scoring.scorer import Scorer, UnitScores

AHEAD_BYTES = 32 << 20
"""Tiles that wait for the scorer, decoded while it computes."""


class ScoreStage:
    """The GPU (or CPU) stage: turns decoded envelopes into scored ones. One instance per actor.

    Several threads call it, so that the device works on one unit while another is unpacked or packed, and so that the last
    batches of a unit leave no core idle. The model loads at once, while the first unit is read; only that imports torch,
    since the driver, which only names this class, does not need it. If the device fails, the process ends.

    Args:
        place: where it works; None where nobody counts what becomes of devices.
    """

    CALLS = 2

    def __init__(self, config: StageConfig, place: Place | None = None) -> None:
        self._place = place or Place()
        self._place.begin()
        self._config = config
        self._decode = config.scoring.decode
        self._shape = (self._decode.height, self._decode.width, 3)
        count = min(config.tile_decoders, os.cpu_count() or 1)  # of a cluster's cores this machine may have fewer
        self._children = Children(self._decode, config.decode_timeout_s, count, self.CALLS)
        self._loading = threading.Lock()
        self._loaded: Scorer | None = None
        self._idle = IdleClock(self.CALLS)
        if self._place.refuses is None:
            # The first unit asks again for what storage did not give, and reports why it stays open.
            with contextlib.suppress(StorageError, ScoringError, ModelError), self._place.device():
                self._scorer()
        self._place.ready()

    def __call__(self, row: pa.Table) -> pa.Table:
        if Outcome.is_in(row):
            return row
        unit = DecodedUnit.of(row)
        if self._place.refuses is not None:
            return Outcome(unit.label.number, unit.label.part, refused=self._place.refuses).table()
        try:
            with self._idle.unit() as idle_s, self._place.unit(unit.label):
                scored = self._scored(unit)
        except StorageError as error:
            return Outcome(unit.label.number, unit.label.part, message=str(error)).table()
        except (ScoringError, ModelError) as error:  # of models: a machine that lacks what this model needs
            return Outcome(unit.label.number, unit.label.part, refused=str(error)).table()
        return scored._replace(seconds=scored.seconds._replace(**idle_s)).table()

    def _scored(self, unit: DecodedUnit) -> ScoredUnit:
        scorer = self._scorer()
        rows, seconds = unit.rows, unit.seconds
        if scorer.tiling is None:
            assert unit.pixels is not None
            pixels = np.frombuffer(unit.pixels, np.uint8).reshape(-1, *self._shape)  # (N, H, W, 3)
            if "encoded" in rows.column_names:
                clock = time.perf_counter()
                pixels, rows = self._decoded_on_device(rows, pixels)
                seconds = seconds._replace(decode=seconds.decode + time.perf_counter() - clock)
            scores = scorer(pixels) if len(pixels) else None
        else:
            tiled, scores = self._by_tiles(unit, scorer)
            rows, seconds = tiled.rows(), seconds._replace(decode=tiled.decode_s)
        results = None
        if scores is not None:
            results = pack_results(scores, scorer.finite(scores), scorer.explain.method if scorer.explain else None)
            seconds = seconds._replace(score=scores.device_s, copy=scores.copy_s)
        # calibrations and readers must not take the pixels of one decoder for those of another
        mode = f"{scorer.label}-nvjpeg" if self._decode.decoder == "cuda" else scorer.label
        return ScoredUnit(
            unit.label, seconds, rows, ScoredOn(mode, scorer.hardware, scorer.one_by_one), scorer.map_threshold, results
        )

    def _decoded_on_device(self, rows: pa.Table, pixels: np.ndarray) -> tuple[np.ndarray, pa.Table]:
        from pipeline.scoring.device_calls import on_device
        from pipeline.scoring.device_decoder import DeviceDecoder

        decoder = DeviceDecoder(self._decode, self._config.decode_timeout_s)
        with over(self._place.watch, "decoding pictures", LONG_S):
            return on_device(lambda: decoder(rows, pixels), self._config.device, "a unit's pictures to decode")

    def _scorer(self) -> "Scorer":
        """When storage does not deliver the model, the unit that asked stays open and the next asks again."""
        with self._loading:
            if self._loaded is None:
                config = self._config
                with self._idle.loading():
                    from pipeline.scoring.device_calls import on_device
                    from pipeline.scoring.scorer import open_scorer

                    settings = (config.device, config.threads, config.scoring.explain, self._idle, self._place.watch)
                    work = "the model"
                    with over(self._place.watch, "preparing it", LONG_S):
                        on_device(lambda: take_given_device(config), config.device, work)
                    directory = local_copy(config.artifact_uri, Path(config.cache_dir))
                    with over(self._place.watch, "loading the model", LONG_S):
                        self._loaded = on_device(lambda: open_scorer(directory, *settings), config.device, work)
            return self._loaded

    def _by_tiles(self, unit: DecodedUnit, scorer: "Scorer") -> tuple[TiledUnit, "UnitScores | None"]:
        """A unit that arrives encoded, and its scores unless it is empty."""
        assert scorer.tiling is not None
        size = scorer.batch_size
        with self._children.taken() as children:
            tiled = TiledUnit(unit.rows, self._decode, scorer.tiling, size, children)
            waiting = max(1, AHEAD_BYTES // (size * math.prod(self._shape)))
            # after an error too, no thread is left at a child that the next unit takes
            with contextlib.closing(tiled.batches()) as parts, contextlib.closing(ahead(parts, waiting)) as batches:
                scores = scorer.by_tiles(batches, tiled.count)
        return tiled, scores if tiled.count else None
