"""A slice is not published while too many of its images failed, or while the number that failed is unknown."""

from collections.abc import Sequence

from pipeline.tables.faults import TablesError


class TooManyErrors(TablesError):
    """More images failed than the configured share. Nothing was published; the commits stay."""


def check_error_share(quarantined: int, planned: int, archives: Sequence[str], limit: float, accept: str) -> None:
    """Raises TooManyErrors.

    Args:
        archives: keys of archives that are not read: they hold any number of images, so the share is unknown.
        limit: the highest share of quarantined images among the planned ones.
        accept: the command that publishes at any share.
    """
    what_then = f"Nothing was published. If that is acceptable: {accept}"
    if archives:
        listed = ", ".join(map(repr, sorted(archives)[:3])) + (", ..." if len(archives) > 3 else "")
        raise TooManyErrors(
            f"archives in the input must be of a kind that is read, since others hold any number of images; "
            f"got {len(archives):,} that are not: {listed}. {what_then}"
        )
    share = quarantined / max(1, planned)
    if share > limit:
        failed = f"{share:.2%} ({quarantined:,} of {planned:,})"
        raise TooManyErrors(f"share of images with errors must be at most {limit:.2%}; got {failed}. {what_then}")
