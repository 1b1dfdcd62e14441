"""Rows of `drift` are read as they were written, and say what judges need."""

from fake_run import MODEL

from pipeline.state.ledger import Ledger
from pipeline.state.publications import Change
from pipeline.tables.changes import schema_text
from pipeline.tables.delta import open_table
from pipeline.tables.drift_rows import DriftRow, nights_of, read_drift, write_drift
from pipeline.tables.publication import Draft, publish
from pipeline.verdicts.charted_night import ChartedNight, Measured
from schemas import drift

SUMS = '{"over": true, "high": [0.1, 0.3333333333333333]}'
MEASURED = Measured((0.1, 0.2), (3.0, -4.0), (3.5, 3.4), ("contrast_ratio",))
NIGHTS = (
    ChartedNight("2026-01-01", "reference", 30, "reference night 1"),
    ChartedNight("2026-01-02", "watch", 30, "watch: light: so", ("light",), "2026-01-02", MEASURED, SUMS),
    ChartedNight("2026-01-03", "suspended", 30, "suspended", ("light", "focus"), "2026-01-02", MEASURED, SUMS),
    ChartedNight("2026-01-04", "ok", 30, "ok: like the reference nights", (), None, MEASURED, SUMS),
)


def written(output, rows):
    ledger = Ledger(output, MODEL)

    def prepare(seal, opened):
        change = Change(tuple(write_drift(ledger, rows)), schema=schema_text(drift.SCHEMA))
        return Draft(seal, MODEL, "drift", {"drift": change})

    publish(output, prepare)
    return read_drift(ledger, open_table(output, "drift"))


def test_rows_are_read_as_they_were_written(place):
    rows = [DriftRow("d" * 64, "c" * 64, "line=7, of=a", night) for night in NIGHTS]
    read = written(place, rows)
    assert read == [row._replace(night=row.night._replace(measured=None)) for row in rows]
    (night,) = (row for row in open_table(place, "drift").to_pyarrow_table().to_pylist() if row["date"] == "2026-01-03")
    assert (night["source"], night["alarmed"], night["drift_group"]) == ("light, focus", "contrast_ratio", "line=7, of=a")
    assert (night["contrast_ratio_value"], night["contrast_ratio_distance"], night["contrast_ratio_limit"]) == (0.2, -4.0, 3.4)
    assert night["size_value"] is None and night["decided_at"] is not None
    assert read_drift(Ledger(place, "another"), open_table(place, "drift")) == []


def test_judges_are_told_of_their_own_model_and_calibration():
    rows = [DriftRow("d", "c", "all", night) for night in NIGHTS]
    suspended, watched = nights_of(rows, "d", "c")
    assert suspended == {("all", "2026-01-03"): "drift: light and focus since 2026-01-02"}
    assert watched == {("all", "2026-01-02"): "the drift chart of the night says watch: light: so"}
    assert nights_of(rows, "d", "other") == nights_of(rows, "other", "c") == ({}, {})


def test_without_a_table_nothing_is_read():
    assert read_drift(Ledger("unused", MODEL), None) == []
