"""Production days: ISO dates where an archive has them, any text otherwise."""

from datetime import date as day


def is_day(date: str) -> bool:
    """Whether a production day is an ISO day, `2026-01-31`."""
    if len(date) != len("2026-01-31"):
        return False
    try:
        return day.fromisoformat(date).isoformat() == date
    except ValueError:
        return False


def period(date: str) -> str:
    """The table partition of a production day: its month, `2026-01`; the text itself if it is no ISO day."""
    return date[: len("2026-01")] if is_day(date) else date
