"""The largest map values of whole images, for a model that sees tiles: training keeps only some tiles of an image."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from jobs.command.errors import UsageError
from jobs.images.scored import counted_cells, scores_of
from models.detector import Detector, FitRun, Work
from pipeline.decode.config import DecodeConfig
from pipeline.in_process import EncodedUnits
from pipeline.input.config import SourceConfig
from pipeline.scoring.device import resolve_device
from pipeline.scoring.scorer import Scorer

WHAT, UNIT = "scoring whole held-out images", "whole images"


def whole_maxima(source: SourceConfig, content_hashes: Sequence[str], run: FitRun, detector: Detector) -> np.ndarray:
    """The largest value of the map of every image with these contents, (N,) float32, as scoring blends it of all its tiles.

    It reads the input once more, and cuts and scores only these images. The new detector has to be frozen.

    Raises UsageError if an image is gone or can no longer be read.
    """
    scorer, decode = Scorer(detector, resolve_device(run.device)), DecodeConfig.of(detector.config.input)
    missing, found = set(content_hashes), dict[str, np.float32]()
    total = len(missing)
    run.on_work(Work(WHAT, 0, total, UNIT))
    for table in EncodedUnits(source):
        first = {content: at for at, content in reversed(list(enumerate(table["content_hash"].to_pylist())))}
        for content in sorted(missing & first.keys(), key=lambda content: first[content]):
            image = table.take(pa.array([first[content]]))
            for (row,), result, _ in scores_of(image, scorer, decode, with_thumbs=False):
                if row["error"] is None:
                    found[content] = np.float32(counted_cells(row, result.anomaly_map[0], decode).max())
                    missing.remove(content)
            run.on_work(Work(WHAT, len(found), total, UNIT))
        if not missing:
            break
    if missing:
        rule = f"the images that were read before; {len(missing)} of {total} held-out ones must be read a second time"
        raise UsageError("--input", rule, source.input_uri, "Leave them in place, unchanged, until the training has ended.")
    return np.array([found[content] for content in content_hashes], np.float32)
