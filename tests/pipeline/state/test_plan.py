import gc
import random
from dataclasses import replace

import pytest

from pipeline.decode.config import DecodeConfig
from pipeline.input.config import SourceConfig
from pipeline.input.listing import Listing
from pipeline.state import plan, slices
from pipeline.state.commits import pending, write_commit
from pipeline.state.entries import Created, Head, OtherKeys, Promotion, Rekey, add_entry, read_entry, read_head, read_slice
from pipeline.state.ledger import Ledger
from pipeline.state.plan import Wanted, fold_if_due, plan_slice, read_state
from pipeline.state.scoring_config import ScoringConfig, part_id
from pipeline.storage.local import LocalStore
from pipeline.storage.store import open_store
from schemas import commit as commit_schema
from schemas.envelope import WorkItem
from schemas.footer import Footer, StageSeconds
from schemas.plan import PlannedObject, RowRange, UnitContent, UnitOutline


class Archive:
    """An input of small files and a ledger that scores it with model `a`."""

    def __init__(self, folder):
        self.folder = folder / "in"
        self.folder.mkdir()
        self.ledger = Ledger(str(folder / "out"), "m")
        add_entry(self.ledger, Head(), Created(image_id="uri", key_pattern=None))
        self.promote("a")

    def promote(self, digest, from_day=None):
        head = read_head(self.ledger)
        assert add_entry(self.ledger, head, Promotion(digest=digest, from_day=from_day, artifact={}))

    def rekey(self, key_pattern):
        assert add_entry(self.ledger, read_head(self.ledger), Rekey(key_pattern=key_pattern))

    def add(self, *names, content=b"x"):
        for name in names:
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    def scoring(self, digest="a", **source):
        return ScoringConfig(
            model="m",
            model_digest=digest,
            source=SourceConfig(input_uri=f"file://{self.folder}", **source),
            decode=DecodeConfig(height=32, width=32),
        )

    def wanted(self, retry_errors=False, **source):
        store = open_store(str(self.folder))
        config = SourceConfig(input_uri=f"file://{self.folder}", **source)
        return Wanted(store, lambda: Listing(config, store), lambda digest: self.scoring(digest, **source), retry_errors)

    def plan(self, **source):
        return plan_slice(self.ledger, self.wanted(**source))

    def keys(self, number):
        return [entry.key for unit in slices.units(self.ledger, number) for entry in unit.objects]

    def dates(self, number):
        return [(unit.date, [entry.key for entry in unit.objects]) for unit in slices.units(self.ledger, number)]

    def objects(self, number):
        return [row for group in slices.objects(self.ledger, number) for row in group.to_pylist()]


@pytest.fixture
def archive(tmp_path):
    return Archive(tmp_path)


def test_slices_hold_only_what_is_new_or_changed(archive):
    archive.add("a.jpg", "b.jpg", "c.jpg", "notes.txt")
    assert archive.plan(unit_images=2) == 3
    assert archive.keys(3) == ["a.jpg", "b.jpg", "c.jpg"]
    entry = read_slice(archive.ledger, 3)
    counts = (entry.objects, entry.units, entry.images, entry.streams, entry.size, entry.ignored, entry.replans)
    assert counts == (3, 2, 3, 0, 3, 1, 0)
    assert archive.plan(unit_images=2) is None
    archive.add("aa.jpg")
    archive.add("b.jpg", content=b"yy")
    assert archive.plan(unit_images=2) == 4
    assert archive.keys(4) == ["aa.jpg", "b.jpg"]
    assert [(row["object"].rpartition("/")[2], row["before"]) for row in archive.objects(4)] == [("aa.jpg", None), ("b.jpg", 3)]
    assert read_slice(archive.ledger, 4).replans == 1
    assert archive.plan(unit_images=2) is None


def test_what_is_new_depends_on_no_setting(archive):
    archive.add("l1/2026-01-01/a.jpg")
    assert archive.plan(date="2026-05-01") == 3
    for source in ({"date": "2026-05-02"}, {"unit_images": 1}, {"members": "*.jpg"}):
        assert archive.plan(**source) is None, source
    archive.promote("b")
    assert archive.plan() is None


def test_an_object_keeps_its_first_date(archive):
    """Also after a rekey whose pattern reads another day: that is where its rows are."""
    archive.add("x/a.jpg")
    archive.plan(date="2026-05-01")
    archive.add("x/a.jpg", "x/b.jpg", content=b"changed")
    assert archive.dates(archive.plan(date="2026-05-02")) == [("2026-05-01", ["x/a.jpg"]), ("2026-05-02", ["x/b.jpg"])]
    archive.rekey("{date}/{name}")
    archive.add("x/a.jpg", "x/c.jpg", content=b"again!")
    planned = archive.dates(archive.plan(date="2026-05-03", key_pattern="{date}/{name}"))
    assert planned == [("2026-05-01", ["x/a.jpg"]), ("x", ["x/c.jpg"])]


def test_alternating_dates_do_not_make_units_of_one_image(archive):
    archive.add(*(f"S{serial:03d}_2026-01-{1 + serial % 3:02d}.jpg" for serial in range(60)))
    archive.rekey("S{name}_{date}.jpg")
    number = archive.plan(key_pattern="S{name}_{date}.jpg", unit_images=8)
    assert read_slice(archive.ledger, number).units == 9
    found = archive.dates(number)
    assert all(key[5:15] == date for date, keys in found for key in keys)
    assert sorted(len(keys) for _, keys in found) == [4, 4, 4, 8, 8, 8, 8, 8, 8]
    assert [row["object"] for row in archive.objects(number)] == sorted(row["object"] for row in archive.objects(number))


def test_shards_between_loose_images_do_not_cut_their_units(archive):
    archive.add(*(f"{i:02d}.jpg" for i in range(20)))
    archive.add(*(f"{i:02d}.tar" for i in range(20)), content=b"")
    entry = read_slice(archive.ledger, archive.plan(unit_images=10))
    assert (entry.units, entry.streams) == (22, 20)


def test_images_of_a_day_are_planned_for_the_model_of_that_day(archive):
    pattern = {"key_pattern": "{date}/{name}"}
    archive.rekey(**pattern)
    archive.add("2026-01-01/a.jpg", "2026-01-05/a.jpg")
    archive.plan(**pattern)
    archive.promote("b", "2026-01-06")
    archive.add("2026-01-01/late.jpg", "2026-01-06/new.jpg", "2026-02-01/new.jpg")
    archive.add("2026-01-05/a.jpg", content=b"changed")
    number = archive.plan(**pattern)
    entry = read_slice(archive.ledger, number)
    digest = [scoring.model_digest for scoring in entry.scorings]
    found = {unit.date: digest[unit.scoring] for unit in slices.units(archive.ledger, number)}
    assert found == {"2026-01-01": "a", "2026-01-05": "a", "2026-01-06": "b", "2026-02-01": "b"}
    assert [read_entry(archive.ledger, number).digest for number in entry.promotions] == digest
    assert entry.last_day == "2026-02-01"


def test_who_loses_the_number_plans_anew(archive, monkeypatch):
    """Another driver seals the same images, or a promotion, after this one has listed: nothing is planned twice."""
    archive.add("2026-01-01/a.jpg", "2026-01-01/b.jpg")
    puts, real = [], plan.add_entry

    def other_is_first(ledger, head, entry):
        puts.append(head.number)
        if len(puts) == 1:
            monkeypatch.setattr(plan, "add_entry", real)
            assert plan_slice(ledger, archive.wanted()) == 3
            archive.add("2026-01-01/c.jpg")
            archive.promote("b")
            monkeypatch.setattr(plan, "add_entry", other_is_first)
        return real(ledger, head, entry)

    monkeypatch.setattr(plan, "add_entry", other_is_first)
    assert archive.plan() == 5
    assert puts == [2, 4]
    assert archive.keys(3) == ["2026-01-01/a.jpg", "2026-01-01/b.jpg"] and archive.keys(5) == ["2026-01-01/c.jpg"]
    assert read_slice(archive.ledger, 5).scorings[-1].model_digest == "b"


def test_a_rekey_while_images_are_listed_ends_the_planning(archive, monkeypatch):
    """Otherwise rows of the earlier pattern would come after the rekey."""
    archive.add("x/a.jpg")
    real = plan.add_entry

    def rekey_first(ledger, head, entry):
        monkeypatch.setattr(plan, "add_entry", real)
        archive.rekey("{line}/{name}")
        return real(ledger, head, entry)

    monkeypatch.setattr(plan, "add_entry", rekey_first)
    with pytest.raises(OtherKeys, match="key_pattern must stay"):
        archive.plan()
    assert read_head(archive.ledger).slices == ()


def test_a_lost_answer_of_the_seal_plans_nothing_twice(archive, monkeypatch):
    archive.add("a.jpg")
    monkeypatch.setattr(LocalStore, "put_new", _loses("/entries/", LocalStore.put_new))
    assert archive.plan() is None
    assert archive.keys(3) == ["a.jpg"] and archive.ledger.entries.newest() == 3


def _loses(part, real):
    """A put that is done, and whose answer says that the object existed."""

    def put_new(store, key, body):
        real(store, key, body)
        return part not in key

    return put_new


def test_slices_of_several_parts(archive, monkeypatch):
    monkeypatch.setattr(plan, "BATCH", 10)
    monkeypatch.setattr(plan, "PART_OBJECTS", 20)
    names = [f"{i:03d}.jpg" for i in range(75)]
    archive.add(*names)
    number = archive.plan(unit_images=4)
    entry = read_slice(archive.ledger, number)
    assert [(part.objects, part.first) for part in entry.parts] == [(20, 0), (20, 6), (20, 12), (15, 18)]
    assert archive.keys(number) == names
    for first, end in [(0, 99), (0, 6), (5, 7), (11, 13), (17, 23), (22, 23)]:
        units = list(slices.units(archive.ledger, number, first, end))
        assert [unit.number for unit in units] == list(range(first, min(end, entry.units)))
        outlines = [(unit.number, unit.date, unit.scoring, unit.images, unit.size) for unit in units]
        assert list(slices.outlines(archive.ledger, number, first, end)) == outlines


def test_a_planner_holds_units_of_one_batch_only(archive, monkeypatch):
    """As objects of Python a part's million objects take half a gigabyte."""
    monkeypatch.setattr(plan, "BATCH", 2)
    archive.add(*(f"{number:02d}.jpg" for number in range(20)))
    alive = []

    class Watched(Listing):
        def __iter__(self):
            for entry in super().__iter__():
                gc.collect()
                alive.append(sum(isinstance(each, PlannedObject) for each in gc.get_objects()))
                yield entry

    wanted = archive.wanted()
    before = sum(isinstance(each, PlannedObject) for each in gc.get_objects())
    assert (
        plan_slice(archive.ledger, replace(wanted, listing=lambda: Watched(wanted.listing()._config, wanted.input_store))) == 3
    )
    assert len(alive) == 20 and max(alive) - before <= 2


def test_units_by_number_across_row_groups(archive):
    archive.add(*(f"{i:04d}.jpg" for i in range(150)))
    number = archive.plan(unit_images=1)
    for first, end in [(0, 150), (63, 65), (64, 128), (149, 150), (10, 11), (140, 400)]:
        units = list(slices.units(archive.ledger, number, first, end))
        assert [unit.number for unit in units] == list(range(first, min(end, 150)))


@pytest.mark.parametrize("seed", range(5))
def test_histories_with_folds_plan_every_content_once(archive, seed):
    """Files appear, change, and change back; slices are folded when it is due. Every state that was listed is planned once."""
    rng, planned = random.Random(seed), {}
    for _ in range(12):
        for name in rng.sample([f"{letter}.jpg" for letter in "abcdefgh"], rng.randint(0, 4)):
            archive.add(name, content=b"x" * rng.randint(1, 50))
        listed = {entry.key: entry.etag for entry in open_store(str(archive.folder)).list()}
        number = archive.plan(unit_images=3)
        fresh = {key for key, etag in listed.items() if planned.get(key) != etag}
        assert set(archive.keys(number) if number else []) == fresh
        planned |= listed
        fold_if_due(archive.ledger)
    assert len(read_state(archive.ledger)[1].slices) < plan.FOLD_SLICES


def test_unit_ids_change_with_everything_that_is_hashed(archive):
    base = archive.scoring()
    unit = UnitContent(source="files", date="", objects=(PlannedObject("a.jpg", 1, "e"),), images=1, size=1)
    variants = [
        base.unit_id(unit, 3),
        base.unit_id(unit, 4),
        base.unit_id(replace(unit, objects=(PlannedObject("a.jpg", 1, "f"),)), 3),
        base.unit_id(replace(unit, rows=RowRange(0, 1)), 3),
        base.unit_id(replace(unit, rows=RowRange(1, 1)), 3),
        base.model_copy(update={"model_digest": "e" * 64}).unit_id(unit, 3),
        base.model_copy(update={"decode": DecodeConfig(height=64, width=32)}).unit_id(unit, 3),
        part_id(base.unit_id(unit, 3), 0, 0),
        part_id(base.unit_id(unit, 3), 1, 0),
        part_id(base.unit_id(unit, 3), 0, 512),
    ]
    assert len(set(variants)) == len(variants)
    assert base.unit_id(unit, 3) == archive.scoring().unit_id(unit, 3)


def commit_empty(ledger, number, part, next_offset):
    footer = Footer(
        unit_id="u",
        slice=3,
        number=number,
        part=part,
        date="none",
        scored=0,
        errors=0,
        next_offset=next_offset,
        device="cpu",
        scoring_version=5,
        bytes_read=0,
        ignored=0,
        seconds=StageSeconds(),
    )
    return write_commit(ledger.store, ledger.commit_key(3, number, part), commit_schema.SCHEMA.empty_table(), footer)


def test_pending_is_plan_minus_commits(archive):
    ledger = archive.ledger
    units = [UnitOutline(n, "none", 0, None if n >= 3 else 8) for n in range(7)]
    assert [item.number for item in pending(ledger, 3, units)] == list(range(7))
    assert commit_empty(ledger, 1, 0, None)
    assert not commit_empty(ledger, 1, 0, None)
    commit_empty(ledger, 3, 0, None)
    commit_empty(ledger, 4, 0, 1024)
    commit_empty(ledger, 4, 1, 4096)
    commit_empty(ledger, 5, 0, 1024)
    commit_empty(ledger, 5, 2, 9000)  # a gap: part 1 is missing
    commit_empty(ledger, 6, 1, None)
    assert list(pending(ledger, 3, units)) == [
        WorkItem(0),
        WorkItem(2),
        WorkItem(4, 4096, 2),
        WorkItem(5, 1024, 1),
        WorkItem(6),
    ]
    assert list(pending(ledger, 3, units[1:3])) == [WorkItem(2)]
