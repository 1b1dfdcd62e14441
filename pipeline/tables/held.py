"""When a slice is held: not published, since too many of its images failed, or nobody knows how many."""

from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.tables.faults import TablesError
from schemas.tally import Tally


class HoldLimits(NamedTuple):
    """A slice is held with at least `min_errors` images with errors that are more than `max_error_share` of its images.

    accept: publish it all the same.
    """

    max_error_share: float = 0.05
    min_errors: int = 20
    accept: bool = False


class SliceHeld(TablesError):
    """More images failed than the limits allow. Nothing of the slice is published; its commits stay."""


def check_errors(tally: Tally, failed: pa.Table, superseded: pa.Array, limits: HoldLimits, accept: str) -> None:
    """Raises SliceHeld.

    Args:
        failed: objects with errors, rows of schemas/tally.py.
        superseded: objects that a later slice has published: mended ones, which no longer count.
        accept: the command that publishes the slice as it is.
    """
    if limits.accept:
        return
    left = failed.filter(pc.invert(pc.is_in(failed["object"], superseded)))
    images = pc.sum(left["images"]).as_py() or 0
    what_then = f"Nothing of the slice is published. If that is acceptable: {accept}"
    if tally.archive_count and left.num_rows:
        listed = ", ".join(map(repr, tally.archives)) + (", ..." if tally.archive_count > len(tally.archives) else "")
        raise SliceHeld(
            f"archives in the input must be of a kind that is read, since others hold any number of images; "
            f"got {tally.archive_count:,} that are not: {listed}. {what_then}"
        )
    if images >= limits.min_errors and images > limits.max_error_share * tally.planned:
        reasons = ", ".join(
            f"{count:,} {reason}" for reason, count in sorted(tally.reasons.items(), key=lambda one: -one[1])[:5]
        )
        raise SliceHeld(
            f"share of images with errors must be at most {limits.max_error_share:.2%}; got "
            f"{images / tally.planned:.2%} ({images:,} of {tally.planned:,}: {reasons}). {what_then}"
        )
