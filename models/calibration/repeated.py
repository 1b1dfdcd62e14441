"""How far a calibration's verdicts agree when a piece is taken out and imaged again."""

from collections.abc import Sequence

import numpy as np

from models.calibration.calibration import Agreement, Calibration, Repeats
from models.faults import VerdictError
from models.verdicts.pieces import Images, piece_scores, verdicts
from models.verdicts.rates import rate_of
from models.verdicts.repeatability import repeatability


def repeated(calibration: Calibration, uri: str, images: Images, takes: Sequence[str], rates: Sequence[str]) -> Repeats:
    """Agreement of the verdicts of pieces that were imaged repeatedly, at each rate that can be promised.

    An imaging counts if it is complete: with missing or surplus images it has no verdict, or one of fewer images. It is
    compared with all good pieces, as a challenge is.
    Args:
        takes: what numbers the imaging of its piece that each image is of, (N,).
    Raises:
        VerdictError: no piece has two complete imagings.
    Assumes, guarantees, source: as `repeatability.repeatability`.

    >>> from models.calibration.example import calibration
    >>> score = np.array([99, 99, 99, -99], np.float32)
    >>> images = Images(np.array(list("aabb")), np.full(4, ""), score, np.ones(4, bool))
    >>> repeated(calibration(pieces=60), "again", images, list("1212"), ["0.05"]).agreements
    (Agreement(rate='0.05', agreeing=1, pieces=2, pairs=0.5, flagged=2),)
    """
    of_image = list(zip(images.piece.tolist(), takes, strict=True))
    imagings = sorted(set(of_image))
    numbers = {imaging: number for number, imaging in enumerate(imagings)}
    # Names in the order of the numbers, so that row i of what is scored is imagings[i].
    names = np.array([f"{numbers[imaging]:09}" for imaging in of_image], np.str_)
    group = calibration.groups[0]
    scored = piece_scores(images._replace(piece=names), calibration.selection.scales, group.sets)
    complete = scored.complete() & (scored.surplus == 0)
    pieces = np.array([piece for piece, _ in imagings], np.str_)
    times = np.unique(pieces[complete], return_counts=True)[1]
    again = times[times > 1]
    if not len(again):
        raise VerdictError(
            f"repeats must be pieces with two or more complete imagings; got {len(np.unique(pieces)):,} pieces without. "
            "Image pieces again, and name the key that numbers their imagings."
        )
    agreements = []
    for text in rates:
        verdict = np.array(verdicts(scored, group.calibrations(), rate_of(text)).verdict)
        judged = complete & (verdict != "not_judged")
        flagged, judged_pieces = verdict[judged] == "flagged", pieces[judged]
        named, times = np.unique(judged_pieces, return_counts=True)
        if not (times > 1).any():  # the rate cannot be promised
            continue
        found = repeatability(flagged, judged_pieces.tolist())
        ever = int(np.isin(named[times > 1], judged_pieces[flagged]).sum())
        agreements.append(Agreement(text.strip(), found.agreeing.counted, found.agreeing.total, found.pairs, ever))
    fewest, most, once = int(again.min()), int(again.max()), len(np.unique(pieces)) - len(again)
    return Repeats(uri, fewest, most, once, int((~complete).sum()), tuple(agreements))
