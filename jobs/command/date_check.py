"""Says before any work that `--date` is no day, which is most often a slip: `yesterday`."""

from collections.abc import Callable

from jobs.command.errors import UsageError
from schemas.days import is_day

A_DAY = "a day such as 2024-06-03"


def check_date(date: str | None, must_be_day: Callable[[], bool], say: Callable[[str], None] = print) -> None:
    """Say in a warning that the date is kept as text. must_be_day: asked only if it is no day.

    Raises UsageError if it must be one: a plant that already scores under `W23` goes on, and nobody begins so by mistake.
    """
    if date is None or is_day(date):
        return
    if must_be_day():
        fix = "Write it like that; $(date -d yesterday +%F) is yesterday in a shell."
        raise UsageError("date", A_DAY, date, fix)
    say(f"warning: date {date!r} is not {A_DAY}: it is kept as text, which drift and promote do not take for a night")
