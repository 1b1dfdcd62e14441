from datetime import UTC, datetime, timedelta

import pytest
from sealed_slices import create, seal

from pipeline.state.dated_names import new_name
from pipeline.state.entries import read_slice
from pipeline.state.ledger import Ledger
from pipeline.state.slices import unreferenced_parts


@pytest.fixture
def ledger(tmp_path):
    ledger = Ledger(str(tmp_path), "m")
    create(ledger)
    return ledger


def test_parts_that_no_slice_names_are_found_once_they_are_old(ledger):
    number = seal(ledger, {f"o{place}": ("e", "s", "none") for place in range(4)}, parts=2)
    name = new_name()
    left = [ledger.part_key(name, what) for what in ("objects", "units")]
    for key in left:
        ledger.store.put(key, b"of a planner that was killed")
    assert unreferenced_parts(ledger, datetime.now(UTC) - timedelta(minutes=10)) == []
    assert unreferenced_parts(ledger, datetime.now(UTC) + timedelta(minutes=10)) == left
    assert len(read_slice(ledger, number).parts) == 2
