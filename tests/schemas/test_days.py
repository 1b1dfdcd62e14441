from schemas.days import is_day, period


def test_days():
    assert is_day("2026-01-31") and is_day("2024-02-29")
    for text in ("2026-02-30", "2026-1-31", "20260131", "yesterday", "2026-W05-1", "", "２０２６-01-01"):
        assert not is_day(text), text


def test_a_period_is_the_month_of_an_iso_day_and_else_the_day_itself():
    days = ("2026-01-31", "2024-02-29", "2026-02-30", "2026-01", "night 7", "none", "2026-W05-1", "50% off/é")
    assert [period(day) for day in days] == ["2026-01", "2024-02", *days[2:]]
