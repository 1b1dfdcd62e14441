"""A budget of pieces that people look at in a night: the threshold of the night is the one that just keeps to it.

The threshold is chosen by looking at the night's scores. So no rate is promised beforehand; the band, which holds for all
thresholds at once, says what it was worth (models/verdicts/band.py). It is fixed when the first images of the night are
published, and kept in the table `decisions`: images that come late are compared with it, and change no other piece.
"""

from collections.abc import Iterable, Mapping

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.verdicts.judge import Judge
from pipeline.verdicts.pieces import Judged

Tops = Mapping[str, NDArray[np.float32]]
"""By night, the largest piece scores, falling: one more than the budget, if there are so many."""


def tops(judged: Judged, nights: pa.DictionaryArray, budget: int) -> Tops:
    """Of these pieces.

    Args:
        nights: of each piece, (P,).
    """
    of_night = np.asarray(nights.indices)
    found = {}
    for at, night in enumerate(nights.dictionary.to_pylist()):
        scores = judged.score[(of_night == at) & (judged.rank > 0)]
        found[night] = np.sort(scores)[::-1][: budget + 1]
    return found


def thresholds(of: Iterable[Tops], budget: int) -> dict[str, float]:
    """The threshold of each night: at most `budget` pieces score above it. All do if there are no more than that.

    >>> thresholds([{"n": np.array([9, 5, 3])}, {"n": np.array([7, 1])}], budget=2)
    {'n': 5.0}
    """
    together: dict[str, list[NDArray[np.float32]]] = {}
    for one in of:
        for night, scores in one.items():
            together.setdefault(night, []).append(scores)
    found = {}
    for night, several in together.items():
        falling = np.sort(np.concatenate(several))[::-1]
        found[night] = float(falling[budget]) if len(falling) > budget else -np.inf
    return found


def worth(judge: Judge, night: str, threshold: float) -> str:
    """What a night's threshold was worth, in one sentence, by the calibration of all pieces."""
    from models.verdicts.band import band, bound_of_count, covers_lots  # see judge.py

    assert judge.calibration is not None
    group = judge.calibration.groups[0]
    scores = group.scores()
    reached = int((scores > threshold).sum())
    bound = bound_of_count(band(len(scores), [judge.rate]), reached)
    lots = len(np.unique(group.lot)) if judge.calibration.knows_lots() else 0
    said = f"{night}: {judge.rule.review_budget:,} pieces to review: {reached:,} of {len(scores):,} good pieces score as high, "
    said += f"so that at most {100 * bound:.3g} % of good pieces are flagged (at 95 %)"
    return said if covers_lots(lots) else f"{said}; that lots differ is not covered"
