"""What the commits of a slice add up to."""

import json
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
from fake_run import FIRST, INPUT, MODEL, failed, scored, write_slice

from pipeline.state import tally
from pipeline.state.entries import read_slice
from pipeline.state.ledger import Ledger
from pipeline.state.tally import add_up, read_failed, read_tally
from schemas.tally import Tally

DAY = "2026-05-04"


@pytest.mark.parametrize("count", [0, 1, 3, 4, 10])
def test_objects_with_errors_are_written_a_row_group_at_a_time(tmp_path, monkeypatch, count):
    """A slice of a whole archive has millions of them."""
    monkeypatch.setattr(tally, "ROW_GROUP", 3)
    names = [f"{number:02d}" for number in range(count)]
    units = [(DAY, [scored("good", 1.0), failed(name)]) for name in reversed(names)] or [(DAY, [scored("good", 1.0)])]
    write_slice(tmp_path, units)
    ledger = Ledger(str(tmp_path), MODEL)
    counts = add_up(ledger, FIRST, read_slice(ledger, FIRST))
    assert counts == read_tally(ledger, FIRST) and (counts.quarantined, counts.scored) == (count, len(units))
    expected = [{"object": f"{INPUT}/{name}", "outcome": "truncated", "images": 1} for name in names]
    assert read_failed(ledger, FIRST).to_pylist() == expected
    (path,) = tmp_path.glob("_flowscore/ledgers/*/tallies/*.parquet")
    groups = pq.ParquetFile(path).metadata
    assert [groups.row_group(i).num_rows for i in range(groups.num_row_groups)] == [
        min(3, count - start) for start in range(0, count, 3)
    ]


def test_the_first_image_of_each_error_is_its_example(tmp_path, monkeypatch):
    """Also over jobs, whose units are added up by others; a tally of before knows none."""
    monkeypatch.setattr(tally, "UNITS_PER_JOB", 1)
    units = [(DAY, [scored("a", 1.0), failed("b", "empty")]), (DAY, [failed("c"), failed("d"), failed("e", "empty")])]
    write_slice(tmp_path, units)
    ledger = Ledger(str(tmp_path), MODEL)
    counts = add_up(ledger, FIRST, read_slice(ledger, FIRST))
    assert counts.reasons == {"empty": 2, "truncated": 2} and counts.examples == {"empty": "b", "truncated": "c"}
    before = {name: value for name, value in json.loads(counts.text()).items() if name != "examples"}
    assert Tally.parse(json.dumps(before)) == replace(counts, examples={})
