"""Publication of a slice that later ones were published before."""

import fake_run
import pyarrow.compute as pc
import pytest
from fake_run import FIRST, MODEL, scored, write_slice

from pipeline.state import sorted_files
from pipeline.state.committed import IncompleteSlice
from pipeline.state.ledger import Ledger, drop_commits
from pipeline.state.publications import Closed, Publications
from pipeline.tables import publish_slice
from pipeline.tables.held import HoldLimits
from pipeline.tables.publish_slice import superseded

DAY = "2026-05-04"


def write(folder, names, **options):
    return write_slice(folder, [(DAY, [scored(name, 1.0) for name in names])], **options)


def test_what_a_later_slice_has_published_is_superseded(tmp_path):
    """Only published slices count, and only those after it."""
    write(tmp_path, "abc")
    held = write(tmp_path, "abcdefg", parts=2)
    write(tmp_path, "bfz")
    write(tmp_path, "xy")
    write(tmp_path, "ag")
    ledger = Ledger(str(tmp_path), MODEL)
    names = {f"{fake_run.INPUT}/{name}": name for name in "abcdefgxyz"}

    def found(slice_number, *still_open):
        closed = Closed(through=FIRST + 4, still_open=still_open)
        return "".join(names[uri] for uri in superseded(ledger, slice_number, closed).to_pylist())

    assert found(held, held) == "abfg"
    assert found(held, held, FIRST + 2) == "ag"
    assert found(held, held, FIRST + 4) == "bf"
    assert found(FIRST + 3) == ""
    assert found(FIRST + 4) == ""


def test_it_is_found_in_pieces(tmp_path, monkeypatch):
    """A slice of a whole archive does not fit into memory."""
    names = [f"{number:04d}" for number in range(100)]
    held = write(tmp_path, names, parts=5)
    write(tmp_path, names[::9])
    monkeypatch.setattr(sorted_files, "ROWS_AT_ONCE", 10)
    asked = []

    def counted(values, value_set):
        asked.append(max(len(values), len(value_set)))
        return is_in(values, value_set)

    is_in = pc.is_in
    monkeypatch.setattr(publish_slice.pc, "is_in", counted)
    found = superseded(Ledger(str(tmp_path), MODEL), held, Closed(through=held + 1, still_open=(held,)))
    assert found.to_pylist() == [f"{fake_run.INPUT}/{name}" for name in names[::9]]
    assert max(asked) <= 20


@pytest.mark.parametrize("later", [[], ["x"]])
def test_nearly_always_nothing_is(tmp_path, later):
    number = write(tmp_path, "ab")
    if later:
        write(tmp_path, later)
    assert len(superseded(Ledger(str(tmp_path), MODEL), number, Closed(through=number + len(later)))) == 0


@pytest.mark.parametrize("published", [True, False])
def test_a_driver_that_wakes_after_its_slice_was_published_and_cleaned_has_nothing_to_do(tmp_path, monkeypatch, published):
    number, ledger = write(tmp_path, "ab"), Ledger(str(tmp_path), MODEL)
    real, once = publish_slice.slice_changes, [True]

    def changes(*args):
        if once and once.pop():
            if published:
                publish_slice.publish_slice(ledger, number, HoldLimits())
            drop_commits(ledger, number)
        return real(*args)

    monkeypatch.setattr(publish_slice, "slice_changes", changes)
    if published:
        assert publish_slice.publish_slice(ledger, number, HoldLimits()).scored == 2
        assert Publications(str(tmp_path)).last_seal().number == 1
    else:
        with pytest.raises(IncompleteSlice, match="Repeat `flowscore score`"):
            publish_slice.publish_slice(ledger, number, HoldLimits())
