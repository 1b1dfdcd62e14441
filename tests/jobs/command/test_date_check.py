import re

import pytest

from jobs.command.date_check import check_date
from jobs.command.errors import UsageError


@pytest.mark.parametrize("date", ["yesterday", "2024-13-45", "20240603", "June"])
def test_a_date_that_is_no_day(capsys, date):
    said = re.escape(f"date must be a day such as 2024-06-03; got '{date}'. Write it like that; $(date -d yesterday +%F) is")
    with pytest.raises(UsageError, match=f"^{said}"):
        check_date(date, lambda: True)
    check_date(date, lambda: False)
    shown = capsys.readouterr().out
    assert (
        shown.startswith(f"warning: date '{date}' is not a day such as 2024-06-03: it is kept as text")
        and shown.count("\n") == 1
    )


@pytest.mark.parametrize("date", [None, "2024-06-03"])
def test_nothing_is_said_of_a_day(capsys, date):
    asked = []
    check_date(date, lambda: bool(asked.append(date)))
    assert capsys.readouterr().out == "" and not asked
