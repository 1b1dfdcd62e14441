"""False calls and escapes of a labelled set at the rates of the model's calibration, for the report of `evaluate`."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jobs.images.kept import Seen
from models.calibration.at_rates import AtRate, at_rates
from models.calibration.calibration import Calibration, Mode
from models.calibration.promises import per_cent
from models.verdicts.exact_interval import Share
from models.verdicts.pieces import Images


class LabelledScore(NamedTuple):
    """path: names the image.  group: its piece in the table of --groups, else its path."""

    path: str
    group: str
    score: float
    bad: bool
    content_hash: str | None


def of_labelled(
    calibration: Calibration, scores: Sequence[LabelledScore], mode: Mode, seen: Seen, with_groups: bool
) -> tuple[list[AtRate], list[str]]:
    """The figures, and sentences about what they leave out or why there are none.

    seen: what the model was fitted and selected on; such images, and those of the calibration, say nothing of new pieces.
    """
    why = why_none(calibration, mode, with_groups)
    if why is not None:
        return [], [f"no figures at calibrated rates: {why}"]
    by_group = bool(calibration.keys.piece)
    known = seen.fit | seen.selection | set(calibration.hashes)
    fresh = [score for score in scores if score.content_hash not in known]
    lines = []
    if len(fresh) < len(scores):
        lines.append(
            f"at calibrated rates, left out: {len(scores) - len(fresh):,} images that the model was trained or calibrated on"
        )
    if not fresh:
        return [], lines
    view = calibration.selection.scales.views[0]
    images = Images(
        np.array([score.group if by_group else score.path for score in fresh], np.str_),
        np.full(len(fresh), view),
        np.array([score.score for score in fresh], np.float32),
        np.ones(len(fresh), np.bool_),
    )
    bad = np.array([score.bad for score in fresh], np.bool_)
    found = at_rates(calibration, images, bad, [score.group for score in fresh])
    if with_groups and not by_group:  # an image is a piece there, and here images of a group are alike
        found = [one._replace(pieces=None) for one in found]
    return found, lines


def why_none(calibration: Calibration, mode: Mode, with_groups: bool) -> str | None:
    """Why the calibration says nothing of a labelled set that is scored in this mode; None if it does."""
    if calibration.mode != mode:
        return f"the calibration holds for {calibration.mode.label}, and this is {mode.label}" + (
            "" if calibration.mode.label != mode.label else ", of another batch size or scoring version"
        )
    if len(calibration.selection.scales.views) > 1:
        return "the calibration has several views, which a labelled set does not name"
    if calibration.keys.piece and not with_groups:
        return "the calibration is by piece; --groups says what piece each image shows"
    return None


def as_json(found: AtRate) -> dict[str, Any]:
    """One rate for the file of --json; what cannot be promised has only `needs_pieces`."""

    def share(one: Share | None) -> dict[str, Any] | None:
        return None if one is None else one._asdict()

    pieces = found.pieces
    return {
        "rate": float(found.rate),
        "needs_pieces": found.needs or None,
        "piece_false_calls": share(pieces.false_calls if pieces else None),
        "piece_escapes": share(pieces.escapes if pieces else None),
        "not_judged": {"good": found.not_judged[0], "bad": found.not_judged[1]},
        "image_false_calls": share(found.image_false_calls),
        "image_escapes": share(found.image_escapes),
    }


def lines_of(found: Sequence[AtRate]) -> list[str]:
    """The figures in words, a line or two a rate."""
    lines = []
    for one in found:
        rate = per_cent(one.rate)
        if one.needs:
            lines.append(f"at {rate}: the calibration cannot promise it; that takes {one.needs:,} pieces")
            continue
        left = sum(one.not_judged)
        unjudged = f"; {left:,} pieces not judged ({one.not_judged[1]:,} bad)" if left else ""
        if one.pieces is not None:
            lines.append(f"at {rate}, pieces: false calls {one.pieces.false_calls}, escapes {one.pieces.escapes}{unjudged}")
        lines.append(f"at {rate}, images: false calls {one.image_false_calls}, escapes {one.image_escapes}")
    return lines
