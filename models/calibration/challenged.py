"""How many pieces with known or seeded defects a calibration flags."""

from collections.abc import Sequence

import numpy as np

from models.calibration.calibration import Calibration, Challenge, Detected
from models.faults import VerdictError
from models.verdicts.challenge import detection
from models.verdicts.pieces import Images, piece_scores, verdicts
from models.verdicts.rates import allowed_rank, rate_of


def challenged(
    calibration: Calibration, uri: str, images: Images, size_classes: Sequence[str], rates: Sequence[str]
) -> Challenge:
    """What is flagged of pieces with defects, compared with all good pieces, at each rate that can be promised.

    A piece that cannot be judged, because images are missing or unreadable, counts as one that was not flagged.
    Args:
        size_classes: of the defect that each image's piece has, (N,); "" if there are no classes.
    Raises:
        VerdictError: a piece has two size classes.

    >>> from models.calibration.example import calibration
    >>> bad = Images(np.array(["a", "b"]), np.array(["", ""]), np.array([99, -99], np.float32), np.ones(2, bool))
    >>> challenged(calibration(pieces=60), "bad", bad, ["", ""], ["0.05"]).detected
    (Detected(rate='0.05', size_class='', flagged=1, pieces=2),)
    """
    names, first = np.unique(images.piece, return_index=True)
    sizes = np.asarray(size_classes, np.str_)
    mixed = np.flatnonzero(sizes != sizes[first][np.searchsorted(names, images.piece)])
    if len(mixed):
        raise VerdictError(
            f"a piece must have one size class; got two for {str(images.piece[mixed[0]])!r}. Name the larger one."
        )
    group = calibration.groups[0]
    scored = piece_scores(images, calibration.selection.scales, group.sets)
    classes = sizes[first].tolist()
    found: list[Detected] = []
    for text in rates:
        rate = rate_of(text)
        if not any(len(scores) and allowed_rank(rate, len(scores)) for scores in group.calibrations()):
            continue
        flagged = np.array([verdict == "flagged" for verdict in verdicts(scored, group.calibrations(), rate).verdict], np.bool_)
        rows = detection(flagged, classes if any(classes) else None)
        found += [Detected(text.strip(), row.size_class, row.flagged, row.pieces) for row in rows]
    return Challenge(uri, tuple(found))
