"""Histories of a ledger against a dictionary: what the inventory says is the fold of the slices, whatever was folded when."""

import io
import random
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sealed_slices import create, put_tally, seal

from pipeline.state import inventory, sorted_files, tiers
from pipeline.state.entries import Head, Promotion, read_entry, read_head, read_slice
from pipeline.state.inventory import Base, bases, fold, read_base, unreferenced
from pipeline.state.known import Known
from pipeline.state.ledger import Ledger
from pipeline.state.outcomes import Outcomes
from pipeline.state.state_file import DamagedState
from pipeline.state.tiers import files_prefix, merged, tier_rows
from schemas.tally import MAY_CHANGE

ALPHABET = ["a", "b", "/", "é", "\U0001f600", "\uffee"]  # the last two sort otherwise by UTF-16
NOTHING = (None,) * 5


@pytest.fixture
def ledger(tmp_path):
    made = Ledger(str(tmp_path), "csflow")
    create(made)
    return made


@pytest.fixture
def small(monkeypatch):
    """Pieces and files so small that a few hundred objects need many."""
    monkeypatch.setattr(tiers, "ROW_GROUP", 8)
    monkeypatch.setattr(tiers, "PIECE", 16)
    monkeypatch.setattr(tiers, "PIECES_OF_A_FILE", 2)
    monkeypatch.setattr(sorted_files, "ROWS_AT_ONCE", 16)
    monkeypatch.setattr(inventory, "SLICES_AT_ONCE", 3)


def rows_in(ledger, key):
    return pq.read_table(io.BytesIO(ledger.store.get(key))).to_pylist()


def refold(ledger, through=None):
    """(etag, stamp, date, slice, outcome) by object: all slices up to an entry, read one after the other into a dictionary."""
    found = {}
    for number in read_head(ledger).slices:
        if through is not None and number > through:
            break
        has_tally = next(iter(ledger.store.list(ledger.tally_key(number))), None) is not None
        outcomes = {row["object"]: row["outcome"] for row in rows_in(ledger, ledger.tally_key(number))} if has_tally else {}
        for part in read_slice(ledger, number).parts:
            for row in rows_in(ledger, ledger.part_key(part.name, "objects")):
                name = row["object"]
                found[name] = (row["etag"], row["stamp"], row["date"], number, outcomes.get(name))
    return found


def contents(ledger, base):
    """The same by object, as the tiers of the base alone say, with the outcomes that they hold."""
    found = {}
    for table in merged([tier_rows(ledger, tier) for tier in reversed(base.tiers)], Outcomes(ledger, [])):
        for row in table.to_pylist():
            assert row["object"] not in found
            name = row.pop("object")
            found[name] = tuple(row.values())
    return found


def answers(ledger, base, slices, names, prefix="", batch=50):
    """The same by object of `names`, as `Known` says."""
    known = Known(ledger, base, slices, prefix)
    names = sorted(names, key=str.encode)
    found = {}
    for start in range(0, len(names), batch):
        asked = names[start : start + batch]
        rows = known.of(pa.array(asked, pa.string()))
        assert rows.column_names == ["etag", "stamp", "date", "slice", "outcome"]
        found |= dict(zip(asked, (tuple(row.values()) for row in rows.to_pylist()), strict=True))
    return found


@pytest.mark.parametrize("seed", range(12))
def test_random_histories(ledger, small, seed):
    random_ = random.Random(seed)
    names = list({"".join(random_.choices(ALPHABET, k=random_.randint(1, 6))) for _ in range(random_.choice([40, 150]))})
    untallied = []
    for step in range(30):
        what = random_.random()
        if what < 0.5:
            chosen = random_.sample(names, min(len(names), random_.choice([1, 3, 20, 150])))
            objects = {name: (random_.choice("xyz"), random_.choice("st"), f"2026-01-{step + 1:02d}") for name in chosen}
            untallied.append((seal(ledger, objects, random_.randint(1, 4)), chosen))
        elif what < 0.7 and untallied:
            number, chosen = untallied.pop(random_.randrange(len(untallied)))
            bad = random_.sample(chosen, random_.randint(0, len(chosen)))
            put_tally(ledger, number, {name: random_.choice(MAY_CHANGE) for name in bad})
        elif what < 0.9:
            base = random_.choice([Base(), read_base(ledger)])
            fold(ledger, base, read_head(ledger, base.head))
        else:
            entry = Promotion(digest=f"{step:064x}", artifact={})
            assert ledger.entries.put_new(ledger.entries.newest() + 1, entry.model_dump_json().encode())
        if step % 6 == 5:
            check(ledger, names, random_)


def check(ledger, names, random_):
    """All that is known through any base is what the slices say."""
    expected = refold(ledger)
    for number in [0, *bases(ledger).after(0)]:
        base = inventory.base_numbered(ledger, number) if number else Base()
        assert base.head == Head(**vars(head_at(ledger, number)) | {"slices": ()})
        slices = read_head(ledger, base.head).slices
        prefix = random_.choice(["", *ALPHABET, random_.choice(names)])
        asked = [name for name in names if name.startswith(prefix) and random_.random() < 0.9]
        got = answers(ledger, base, slices, asked, prefix, random_.choice([1, 7, 50, 1000]))
        assert got == {name: expected.get(name, NOTHING) for name in asked}
        settled = {name: row for name, row in refold(ledger, number).items() if row[3] not in base.untallied}
        held = contents(ledger, base)
        assert {name: held[name] for name in settled} == settled
        assert held.keys() == refold(ledger, number).keys()
        assert all(2 * newer.rows < older.rows for older, newer in zip(base.tiers, base.tiers[1:], strict=False))


def head_at(ledger, number):
    head = Head()
    for entry in range(1, number + 1):
        head = head.plus(entry, read_entry(ledger, entry))
    return head


def some(first, count, etag="x"):
    return {f"o{number:06d}": (etag, "s", "2026-01-01") for number in range(first, first + count)}


def test_an_empty_ledger_has_an_empty_base(tmp_path):
    ledger = Ledger(str(tmp_path), "csflow")
    base = read_base(ledger)
    assert (base.through, base.head, base.tiers) == (0, Head(), ())
    assert fold(ledger, base, Head()) == base
    assert not bases(ledger).newest()


def test_who_folds_second_takes_the_base_of_the_first(ledger, monkeypatch):
    seal(ledger, some(0, 100))
    head = read_head(ledger)
    winner = []
    put_new = inventory.Numbered.put_new

    def overtaken(numbered, number, body):
        monkeypatch.setattr(inventory.Numbered, "put_new", put_new)
        winner.append(fold(ledger, Base(), head))
        return put_new(numbered, number, body)

    monkeypatch.setattr(inventory.Numbered, "put_new", overtaken)
    loser = fold(ledger, Base(), head)
    assert loser == winner[0] == read_base(ledger)
    (left,) = unreferenced(ledger, min_age_s=-1)
    assert left != files_prefix(ledger) + loser.tiers[0].files[0].name
    assert len(list(ledger.store.list(files_prefix(ledger)))) == 2
    assert not unreferenced(ledger)  # it is younger than a day


def test_a_tally_that_comes_after_the_fold_is_laid_over_and_goes_into_the_next_one(ledger):
    number = seal(ledger, some(0, 100))
    base = fold(ledger, Base(), read_head(ledger))
    assert base.untallied == (number,)
    put_tally(ledger, number, {"o000003": "gone"})
    assert answers(ledger, base, (), ["o000003", "o000004"])["o000003"][4] == "gone"
    seal(ledger, some(3, 1, "y"))
    small_one = fold(ledger, base, read_head(ledger, base.head))
    assert number in small_one.untallied  # its tier was not written anew
    assert answers(ledger, small_one, (), ["o000003"])["o000003"] == ("y", "s", "2026-01-01", 3, None)
    last = seal(ledger, some(50, 60, "z"))
    whole = fold(ledger, small_one, read_head(ledger, small_one.head))
    assert len(whole.tiers) == 1 and number not in whole.untallied and last in whole.untallied


def test_a_row_is_written_a_logarithmic_number_of_times(ledger, monkeypatch):
    written = []
    write = inventory.write_tier
    monkeypatch.setattr(inventory, "write_tier", lambda *given: written.append(write(*given)) or written[-1])
    base = Base()
    for night in range(64):
        seal(ledger, some(night * 20, 20))
        base = fold(ledger, base, read_head(ledger, base.head))
    assert sum(tier.rows for tier in base.tiers) == 64 * 20
    assert sum(tier.rows for tier in written) <= 7 * 64 * 20
    assert len(base.tiers) <= 7


def test_clean_keeps_the_files_of_the_newest_two_bases_and_of_those_in_use(ledger):
    base = Base()
    first = []
    for night in range(4):
        seal(ledger, some(night * 20, 20))
        base = fold(ledger, base, read_head(ledger, base.head))
        first += [] if night else [file.name for tier in base.tiers for file in tier.files]
    newest_two = [inventory.base_numbered(ledger, number) for number in bases(ledger).after(0)[-2:]]
    needed = {files_prefix(ledger) + file.name for each in newest_two for tier in each.tiers for file in tier.files}
    left = unreferenced(ledger, min_age_s=-1)
    assert files_prefix(ledger) + first[0] in left
    assert not needed & set(left)
    assert needed | set(left) == {entry.key for entry in ledger.store.list(files_prefix(ledger))}
    assert not unreferenced(ledger, min_age_s=60)


def test_a_base_in_use_keeps_files_that_are_old(ledger, monkeypatch):
    """A base that was the newest an hour ago may be in use, however old its files are."""
    seal(ledger, some(0, 20))
    base = fold(ledger, Base(), read_head(ledger))
    old = files_prefix(ledger) + base.tiers[0].files[0].name
    for _ in range(3):
        seal(ledger, some(0, 20, "y"))
        base = fold(ledger, base, read_head(ledger, base.head))
    monkeypatch.setattr(inventory, "named_at", lambda name: datetime.now(UTC) - timedelta(days=99))
    assert old not in unreferenced(ledger, min_age_s=3600)
    assert old in unreferenced(ledger, min_age_s=-1)


def test_a_damaged_base_and_a_damaged_file_are_named(ledger):
    seal(ledger, some(0, 100))
    base = fold(ledger, Base(), read_head(ledger))
    key = files_prefix(ledger) + base.tiers[0].files[0].name
    body = bytearray(ledger.store.get(key))
    body[200] ^= 1
    ledger.store.put(key, bytes(body))
    with pytest.raises(DamagedState, match=key):
        answers(ledger, base, (), ["o000003"])
    ledger.store.put(bases(ledger).key(base.through), b'{"layout": 2}')
    with pytest.raises(DamagedState, match="inventory/bases"):
        read_base(ledger)
