"""A chart goes on from its rows: whatever was charted by which command, the next night is the same."""

import json

import numpy as np

from models.verdicts.night_channels import NightImages
from pipeline.verdicts.drift_chart import GroupChart


def day(number):
    return f"2026-01-{1 + number:02}"


def night(seed, light=0.0, count=50):
    rng = np.random.default_rng(seed)
    effect = 0.01 * rng.normal(size=(4, 1))
    bright, *others = np.exp(4 + effect + 0.05 * rng.normal(size=(4, count)))
    return NightImages([""] * count, bright * np.exp(light), *others, rng.normal(size=count))


def new(before=(), kept=None, store=None):
    store = {} if store is None else store
    return GroupChart("all", before, kept, lambda made: store.setdefault("kept", made))


def test_rows_are_all_that_the_next_night_needs():
    lights = {number: 0.15 * (number in (21, 23, 24)) for number in range(20, 27)}
    whole = new()
    rows = [whole.chart(day(number), night(number)) for number in range(20)]
    rows += [whole.chart(day(number), night(number, light)) for number, light in lights.items()]
    assert [row.state for row in rows[20:25]] == ["ok", "watch", "ok", "watch", "suspended"]
    assert [row.since for row in rows[20:25]] == [None, day(21), None, day(23), day(23)]
    assert rows[24].suspends == f"drift: light since {day(23)}"
    for number, light in lights.items():
        again = new(rows[:number], whole.kept).chart(day(number), night(number, light))
        assert again == rows[number]


def test_a_slow_drift_is_suspended_by_the_sums_and_ends_with_them():
    chart = new()
    for number in range(20):
        chart.chart(day(number), night(number))
    spread = float(chart.kept.reference.spread()[0])
    states = [chart.chart(f"2026-02-{1 + at:02}", night(20 + at, 2.6 * spread)) for at in range(9)]
    assert "suspended" in {row.state for row in states}
    (first, *_) = (row for row in states if row.state == "suspended")
    assert "slow drift" in first.reason and first.sources == ("light",) and max(json.loads(first.carried)["high"]) > 7
    after = [chart.chart(f"2026-03-{1 + at:02}", night(40 + at)) for at in range(4)]
    assert after[-1].state == "ok" and after[-1].since is None


def test_reference_nights_that_were_charted_before_are_remembered():
    store = {}
    rows = [row for row in (new().chart(day(number), night(number)) for number in range(12)) if row]
    chart = new(rows, store=store)
    for number in range(12):
        chart.remember(day(number), night(number))
    later = [chart.chart(day(number), night(number)) for number in range(12, 21)]
    assert [row.state for row in later] == ["reference"] * 8 + ["ok"]
    assert store["kept"].nights == tuple(day(number) for number in range(20))
    whole = new()
    for number in range(20):
        whole.chart(day(number), night(number))
    assert store["kept"].text() == whole.kept.text()


def test_what_somebody_else_has_kept_meanwhile_is_used():
    theirs = new()
    for number in range(1, 21):
        theirs.chart(day(number), night(number))
    mine = new(store={"kept": theirs.kept})
    rows = [mine.chart(day(number), night(number, 0.5 * (number == 21))) for number in (*range(1, 20), 21, 20)]
    assert [row.state for row in rows] == ["reference"] * 19 + ["watch", "reference"]


def test_few_images_are_no_night():
    chart = new()
    assert chart.chart(day(0), night(0, count=19)) is None
    for number in range(20):
        chart.chart(day(number), night(number, count=100))
    assert chart.chart(day(20), night(20, count=24)) is None
    assert chart.chart(day(20), night(20, count=25)).state == "ok"
