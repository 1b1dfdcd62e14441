from pipeline.tables.slice_rows import JOB_IMAGES, JOB_UNITS, STREAM_IMAGES, UnitRange, dealt_out
from schemas.plan import UnitOutline

DIGESTS = ("new", "old")


def test_a_job_holds_units_of_one_month_in_order():
    days = ["2026-01-01", "2026-01-31", "2026-02-01", "2026-01-15", "none"]
    units = [UnitOutline(number, date, 0, 10) for number, date in enumerate(days)]
    assert list(dealt_out(units, DIGESTS)) == [
        ("2026-01", (UnitRange(0, 2, "new"), UnitRange(3, 4, "new"))),
        ("2026-02", (UnitRange(2, 3, "new"),)),
        ("none", (UnitRange(4, 5, "new"),)),
    ]


def test_every_unit_goes_with_the_model_that_scores_it():
    units = [UnitOutline(number, "none", number % 3 == 1, 10) for number in range(6)]
    ((_, ranges),) = dealt_out(units, DIGESTS)
    assert ranges == (
        *(UnitRange(0, 1, "new"), UnitRange(1, 2, "old"), UnitRange(2, 4, "new"), UnitRange(4, 5, "old")),
        UnitRange(5, 6, "new"),
    )


def test_no_job_grows_with_the_slice():
    """By images, by streams, and by units of few images; and jobs leave while units still come."""
    for images, most in ((1000, JOB_IMAGES // 1000), (None, JOB_IMAGES // STREAM_IMAGES), (1, JOB_UNITS)):
        taken = []

        def units(images=images, taken=taken):
            for number in range(20_000):
                taken.append(number)
                yield UnitOutline(number, ("2026-01-01", "2026-02-01")[number % 2], 0, images)

        jobs = dealt_out(units(), DIGESTS)
        first = next(jobs)
        assert sum(end - begin for begin, end, _ in first[1]) == most and len(taken) < 2 * most + 1
        sizes = [sum(end - begin for begin, end, _ in ranges) for _, ranges in jobs]
        assert max(sizes) <= most and sum(sizes) + most == 20_000


def test_nothing_gives_nothing():
    assert list(dealt_out([], DIGESTS)) == []
