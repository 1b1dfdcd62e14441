"""False calls and escapes of labelled pieces and images at calibrated rates, with exact intervals."""

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.calibration.calibration import Calibration
from models.faults import VerdictError
from models.verdicts.challenge import Decisions, decisions, image_share
from models.verdicts.exact_interval import Share
from models.verdicts.image_p import image_ranks, images_flagged
from models.verdicts.pieces import Images, piece_scores, verdicts
from models.verdicts.rates import allowed_rank, pieces_needed

RATES = tuple(Fraction(text) for text in ("0.001", "0.01", "0.05", "0.1"))


class AtRate(NamedTuple):
    """What happens to labelled images at a rate.

    needs: 0, or how many calibration pieces the rate needs, if it cannot be promised; the figures are then None.
    pieces: of the judged ones.  not_judged: good and bad pieces that were neither flagged nor ok.
    image_false_calls, image_escapes: by an image's own p-value, intervals by piece.
    """

    rate: Fraction
    needs: int
    pieces: Decisions | None
    not_judged: tuple[int, int]
    image_false_calls: Share | None
    image_escapes: Share | None


def at_rates(
    calibration: Calibration,
    images: Images,
    bad: NDArray[np.bool_],
    groups: Sequence[str],
    rates: Sequence[Fraction] = RATES,
) -> list[AtRate]:
    """False calls and escapes at each rate, compared with all good pieces of the calibration.

    Args:
        images: labelled ones; a piece with one bad image is bad.
        bad: whether each image shows a defect, (N,).
        groups: of images that are alike, (N,), for the intervals of images: pieces, or what holds several.
    Raises:
        VerdictError: a view has no scale.

    >>> from models.calibration.example import calibration
    >>> images = Images(np.array(list("abcd")), np.full(4, ""), np.array([0, 0, 0, 99], np.float32), np.ones(4, bool))
    >>> found = at_rates(calibration(pieces=60), images, np.array([False, False, False, True]), list("abcd"))
    >>> print(found[2].pieces.false_calls, found[2].pieces.escapes, sep="; ")
    0 of 3 (0 to 70.8 %); 0 of 1 (0 to 97.5 %)
    >>> found[0].needs
    999
    """
    scales, group = calibration.selection.scales, calibration.groups[0]
    unknown = sorted(set(images.view.tolist()) - set(scales.views.tolist()))
    if unknown:
        known = scales.views.tolist()
        raise VerdictError(f"views must be those of the calibration, {known}; got {unknown}. Give the views of the images.")
    scored = piece_scores(images, scales, group.sets)
    of_image = np.searchsorted(scored.piece, images.piece)
    bad_piece = np.zeros(len(scored.piece), np.bool_)
    bad_piece[of_image[bad]] = True
    names = np.asarray(groups, np.str_)
    known_images = {view: calibration.images_of(group, view) for view in np.unique(images.view).tolist()}
    found = []
    for rate in rates:
        largest = max(len(scores) for scores in group.calibrations())
        if not allowed_rank(rate, largest):
            found.append(AtRate(rate, pieces_needed(rate).on_average, None, (0, 0), None, None))
            continue
        verdict = np.array(verdicts(scored, group.calibrations(), rate).verdict)
        judged = verdict != "not_judged"
        flagged = np.zeros(len(images.score), np.bool_)
        for view, known_of_view in known_images.items():
            mine = (images.view == view) & images.readable
            flagged[mine] = images_flagged(image_ranks(images.score[mine], known_of_view), rate, known_of_view)
        good, shown = ~bad & images.readable, bad & images.readable
        found.append(
            AtRate(
                rate,
                0,
                decisions(verdict[judged] == "flagged", bad_piece[judged]),
                (int((~judged & ~bad_piece).sum()), int((~judged & bad_piece).sum())),
                image_share(flagged[good], names[good].tolist()),
                image_share(~flagged[shown], names[shown].tolist()),
            )
        )
    return found
