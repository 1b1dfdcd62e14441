"""Results as bits: what must be equal, and how far apart what need not be is."""

import hashlib

import numpy as np
from scipy.stats import spearmanr

from pipeline.scoring.scorer import Scorer, UnitScores


def of(found: UnitScores) -> str:
    """A hash of scores, maps and embeddings, 16 hex digits."""
    total = hashlib.sha256()
    for part in (found.score, np.stack(list(found.anomaly_map)), found.embedding):
        total.update(np.ascontiguousarray(part).tobytes())
    return total.hexdigest()[:16]


def each(found: UnitScores) -> list[bytes]:
    """The bits of every image's results."""
    parts = zip(found.score, found.anomaly_map, found.embedding, strict=True)
    return [b"".join(np.asarray(part).tobytes() for part in image) for image in parts]


def scored(scorer: Scorer, pixels: np.ndarray) -> str:
    return of(scorer(pixels))


def distance(ours: np.ndarray, theirs: np.ndarray) -> dict[str, float]:
    """Largest difference of two models' scores over the spread of the second, and the correlation of ranks."""
    spread = float(np.std(theirs)) or 1.0
    return {
        "largest_over_spread": float(np.abs(ours - theirs).max() / spread),
        "rank_correlation": float(spearmanr(ours, theirs).statistic),
    }
