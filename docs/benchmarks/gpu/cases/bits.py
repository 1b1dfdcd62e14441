"""Results as bits: what must be equal, and how far apart what need not be is."""

import hashlib

import numpy as np
from scipy.stats import spearmanr

from pipeline.scoring.scorer import Scorer, UnitScores

LEAST_IMAGES = 3


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


def distance(ours: np.ndarray, theirs: np.ndarray) -> dict[str, float | int]:
    """Of images with a finite score in both models: the largest difference over the spread of the second's scores, and the
    correlation of ranks. Beside it, how many have none in the first."""
    both = np.isfinite(ours) & np.isfinite(theirs)
    ours, theirs = ours[both].astype(np.float64), theirs[both].astype(np.float64)
    lost = {"without_score": int((~both).sum())}
    if len(ours) < LEAST_IMAGES or not theirs.std():
        return lost
    return lost | {
        "largest_over_spread": float(np.abs(ours - theirs).max() / theirs.std()),
        "rank_correlation": float(spearmanr(ours, theirs).statistic),
    }
