"""When a slice is held: not published, since too many of its images failed, or nobody knows how many; and what to do then."""

import shlex
from collections.abc import Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.state.ledger import Ledger
from pipeline.tables.faults import TablesError
from schemas.tally import Tally

REASONS_NAMED = 5


class HoldLimits(NamedTuple):
    """A slice is held with at least `min_errors` images with errors that are more than `max_error_share` of its images.

    accept: publish it all the same.
    """

    max_error_share: float = 0.05
    min_errors: int = 20
    accept: bool = False


class SliceHeld(TablesError):
    """More images failed than the limits allow. Nothing of the slice is published; its commits stay.

    Its text has several lines: the rule, the most frequent errors, how to look at them, and what to do then.
    """


class Reason(NamedTuple):
    """error: its code in the table `errors`.  images: that have it.  example: what one of them is called; None if not known."""

    error: str
    images: int
    example: str | None = None

    def __str__(self) -> str:
        """`60 truncated, for example 'line7/2026-01-31/a.png'`."""
        return f"{self.images:,} {self.error}" + ("" if self.example is None else f", for example {self.example!r}")


def reasons_of(tally: Tally) -> list[Reason]:
    """Why images of a slice failed, the most frequent first; the examples are keys below the input."""
    found = (Reason(error, images, tally.examples.get(error)) for error, images in tally.reasons.items())
    return sorted(found, key=lambda reason: (-reason.images, reason.error))


def reasons_of_objects(failed: pa.Table) -> list[Reason]:
    """The same of some of its objects, rows of schemas/tally.py. All failed images of an object count for its one outcome."""
    found = failed.group_by("outcome").aggregate([("images", "sum"), ("object", "min")]).to_pylist()
    reasons = (Reason(row["outcome"], row["images_sum"], row["object_min"]) for row in found)
    return sorted(reasons, key=lambda reason: (-reason.images, reason.error))


def named(reasons: Sequence[Reason]) -> list[str]:
    """The first few of them, and one text about the others."""
    texts = [str(reason) for reason in reasons[:REASONS_NAMED]]
    if others := reasons[REASONS_NAMED:]:
        texts.append(f"{sum(reason.images for reason in others):,} with {len(others)} other errors")
    return texts


def look(ledger: Ledger, number: int) -> str:
    """The command that shows the errors of a slice that is not published."""
    query = f"select error, message, uri, member from errors where run_id = '{ledger.run_id(number)}'"
    return f'flowscore query --output {shlex.quote(ledger.output_uri)} --unpublished "{query}"'


def accept(ledger: Ledger, number: int) -> str:
    """The command that publishes a slice as it is."""
    output = shlex.quote(ledger.output_uri)
    return f"flowscore finalize --output {output} --model {ledger.model} --slice {number} --accept-errors"


def check_errors(ledger: Ledger, number: int, tally: Tally, failed: pa.Table, superseded: pa.Array, limits: HoldLimits) -> None:
    """Raises SliceHeld.

    Args:
        failed: objects with errors, rows of schemas/tally.py.
        superseded: objects that a later slice has published: mended ones, which no longer count.
    """
    if limits.accept:
        return
    left = failed.filter(pc.invert(pc.is_in(failed["object"], superseded)))
    images = pc.sum(left["images"]).as_py() or 0
    if tally.archive_count and left.num_rows:
        listed = ", ".join(map(repr, tally.archives)) + (", ..." if tally.archive_count > len(tally.archives) else "")
        rule = (
            f"archives in the input must be of a kind that is read, since others hold any number of images; "
            f"got {tally.archive_count:,} that are not: {listed}"
        )
    elif images >= limits.min_errors and images > limits.max_error_share * tally.planned:
        rule = (
            f"share of images with errors must be at most {limits.max_error_share:.2%}; got "
            f"{images / tally.planned:.2%} ({images:,} of {tally.planned:,})"
        )
    else:
        return
    of_images = left.num_rows == failed.num_rows and tally.examples  # the counts of the tally do not know what is mended
    reasons = named(reasons_of(tally) if of_images else reasons_of_objects(left))
    raise SliceHeld(
        "\n".join(
            [
                f"{rule}. Nothing of the slice is published. Its errors:",
                *(f"  {reason}" for reason in reasons),
                f"Look at them: {look(ledger, number)}",
                f"Then mend the images and repeat `flowscore score`, or accept the errors: {accept(ledger, number)}",
            ]
        )
    )
