import pyarrow as pa
import pytest
from sealed_slices import create, put_tally, seal

from pipeline.state import tiers
from pipeline.state.entries import read_head
from pipeline.state.inventory import Base, fold
from pipeline.state.known import KNOWN, Known, is_new
from pipeline.state.ledger import Ledger
from schemas.inventory import INVENTORY


@pytest.fixture
def ledger(tmp_path):
    made = Ledger(str(tmp_path), "csflow")
    create(made)
    return made


def row(etag, outcome=None, stamp="s"):
    return {"etag": etag, "stamp": stamp, "date": "2026-01-01", "slice": 2, "outcome": outcome}


KNOWN_ROWS = [
    row("x"),
    row("x"),
    row("x", "gone"),
    row("x", "gone"),
    row("x", "archived"),
    dict.fromkeys(KNOWN.names),
    row("x"),
    row("x", "corrupt"),
]
LISTED = pa.table({"etag": ["x", "y", "x", "x", "y", "x", "x", "x"], "stamp": ["s", "s", "s", "t", "s", "s", "t", "t"]})


@pytest.mark.parametrize(
    "retry_errors, expected",
    [(False, [False, True, False, True, True, True, False, False]), (True, [False, True, True, True, True, True, False, True])],
)
def test_new_is_what_is_unknown_changed_or_may_be_mended(retry_errors, expected):
    new = is_new(LISTED, pa.Table.from_pylist(KNOWN_ROWS, schema=KNOWN), retry_errors)
    assert isinstance(new, pa.BooleanArray)
    assert new.to_pylist() == expected


def test_nothing_is_new_of_nothing_and_everything_of_an_unknown_input():
    assert len(is_new(LISTED.slice(0, 0), KNOWN.empty_table(), False)) == 0
    unknown = pa.Table.from_pylist([dict.fromkeys(KNOWN.names)] * 8, schema=KNOWN)
    assert is_new(LISTED, unknown, False).to_pylist() == [True] * 8


def test_an_empty_ledger_knows_nothing(ledger):
    known = Known(ledger, Base(), (), "")
    rows = known.of(pa.array(["a", "b"]))
    assert rows.schema.equals(KNOWN)
    assert rows.column_names == INVENTORY.names[1:]
    assert rows.to_pylist() == [dict.fromkeys(KNOWN.names)] * 2
    assert len(known.of(pa.array([], pa.string()))) == 0


@pytest.mark.parametrize("changed", [[], ["o05"], ["o00", "o05", "o19"], [f"o{number:02d}" for number in range(20)]])
@pytest.mark.parametrize("extra", [[], ["o05x"]])
def test_the_last_slice_counts_whether_it_holds_few_or_all(ledger, changed, extra):
    names = [f"o{number:02d}" for number in range(20)]
    first = seal(ledger, {name: ("x", "s", "2026-01-01") for name in names})
    base = fold(ledger, Base(), read_head(ledger))
    slices = [seal(ledger, {name: (etag, "s", "2026-01-02") for name in changed}) for etag in "yz" if changed]
    if changed:
        put_tally(ledger, slices[-1], {changed[0]: "refused"})
    asked = sorted(names + extra)
    rows = Known(ledger, base, slices, "o").of(pa.array(asked)).to_pylist()
    for name, found in zip(asked, rows, strict=True):
        if name in extra:
            assert found == dict.fromkeys(KNOWN.names)
        elif name in changed:
            outcome = "refused" if name == changed[0] else None
            assert found == {"etag": "z", "stamp": "s", "date": "2026-01-02", "slice": slices[-1], "outcome": outcome}
        else:
            assert found == {"etag": "x", "stamp": "s", "date": "2026-01-01", "slice": first, "outcome": None}


def test_what_is_outside_the_prefix_is_not_read(ledger, monkeypatch):
    monkeypatch.setattr(tiers, "ROW_GROUP", 8)
    monkeypatch.setattr(tiers, "PIECE", 16)
    monkeypatch.setattr(tiers, "PIECES_OF_A_FILE", 1)
    seal(ledger, {f"{line}/{number:03d}": ("x", "s", "2026-01-01") for line in "abc" for number in range(32)})
    base = fold(ledger, Base(), read_head(ledger))
    (tier,) = base.tiers
    for file in (tier.files[0], tier.files[-1]):
        ledger.store.delete(tiers.files_prefix(ledger) + file.name)
    asked = pa.array([f"b/{number:03d}" for number in range(32)])
    assert Known(ledger, base, (), "b/").of(asked)["etag"].to_pylist() == ["x"] * 32
