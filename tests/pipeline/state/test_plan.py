import random
from dataclasses import replace

import pytest

from pipeline.decode.config import DecodeConfig
from pipeline.input.config import SourceConfig
from pipeline.state import plan
from pipeline.state.commits import pending, write_commit
from pipeline.state.run_state import RunConflict, RunState
from pipeline.state.scoring_config import ScoringConfig, part_id
from pipeline.storage.objects import Object
from pipeline.storage.store import open_store
from schemas import commit as commit_schema
from schemas.envelope import WorkItem
from schemas.footer import Footer, StageSeconds
from schemas.plan import PlannedObject, RowRange, UnitContent, UnitOutline


def config(input_dir, **source):
    return ScoringConfig(
        model="m",
        model_digest="d" * 64,
        source=SourceConfig(input_uri=str(input_dir), **source),
        decode=DecodeConfig(height=32, width=32),
    )


@pytest.fixture
def archive(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()

    def add(*names, content=b"x"):
        for name in names:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    return folder, add, RunState(str(tmp_path / "out"), "run")


def keys(state, number):
    return [entry.key for unit in plan.units(state, number) for entry in unit.objects]


@pytest.mark.parametrize("seed", range(20))
def test_new_or_changed_is_the_set_difference(seed):
    rng = random.Random(seed)
    names = ["a", "a.jpg", "a/b", "a0", "é", "ü/\U0001f600", "\uffff", "b\n", "z"]
    listed = sorted(rng.sample(names, rng.randint(0, 9)), key=str.encode)
    planned = {name: rng.choice("12") for name in rng.sample(names, rng.randint(0, 9))}
    listing = [Object(name, 1, rng.choice("12")) for name in listed]
    fresh = plan.new_or_changed(iter(listing), iter(sorted(planned.items(), key=lambda p: p[0].encode())))
    assert list(fresh) == [entry for entry in listing if planned.get(entry.key) != entry.etag]


def test_slices_hold_only_what_is_new_or_changed(archive):
    folder, add, state = archive
    settings = config(folder, unit_images=2)
    add("a.jpg", "b.jpg", "c.jpg", "notes.txt")
    store = open_store(str(folder))
    assert plan.plan_slice(state, settings, store) == 0
    assert keys(state, 0) == ["a.jpg", "b.jpg", "c.jpg"]
    assert plan.slice_counts(state, 0) == plan.SliceCounts(units=2, images=3, streams=0, size=3, ignored=1)
    assert plan.plan_slice(state, settings, store) is None
    add("aa.jpg")
    add("b.jpg", content=b"yy")
    assert plan.plan_slice(state, settings, store) == 1
    assert keys(state, 1) == ["aa.jpg", "b.jpg"]
    assert plan.plan_slice(state, settings, store) is None
    assert state.slices() == [0, 1]


def test_units_by_number_across_row_groups(archive):
    folder, add, state = archive
    add(*(f"{i:04d}.jpg" for i in range(150)))
    plan.plan_slice(state, config(folder, unit_images=1), open_store(str(folder)))
    for first, end in [(0, 150), (63, 65), (64, 128), (149, 150), (10, 11), (140, 400)]:
        units = list(plan.units(state, 0, first, end))
        assert [unit.number for unit in units] == list(range(first, min(end, 150)))
        assert list(plan.outlines(state, 0, first, end)) == [(unit.number, unit.date, unit.images) for unit in units]


def test_a_unit_never_crosses_a_date(archive):
    folder, add, state = archive
    add("l1/2026-01-01/a.jpg", "l1/2026-01-01/b.jpg", "l1/2026-01-02/c.jpg")
    plan.plan_slice(state, config(folder, key_pattern="{line}/{date}/{name}"), open_store(str(folder)))
    assert [(u.date, len(u.objects)) for u in plan.units(state, 0)] == [("2026-01-01", 2), ("2026-01-02", 1)]
    assert plan.dates(state, 0) == ["2026-01-01", "2026-01-02"]


def test_unit_ids_change_with_everything_that_is_hashed(archive):
    folder, add, state = archive
    add("a.jpg")
    base = config(folder)
    unit = UnitContent(source="files", date="", objects=(PlannedObject("a.jpg", 1, "e"),), images=1, size=1)
    variants = [
        base.unit_id(unit),
        base.unit_id(replace(unit, objects=(PlannedObject("a.jpg", 1, "f"),))),
        base.unit_id(replace(unit, rows=RowRange(0, 1))),
        base.unit_id(replace(unit, rows=RowRange(1, 1))),
        base.model_copy(update={"model_digest": "e" * 64}).unit_id(unit),
        base.model_copy(update={"decode": DecodeConfig(height=64, width=32)}).unit_id(unit),
        part_id(base.unit_id(unit), 0, 0),
        part_id(base.unit_id(unit), 1, 0),
        part_id(base.unit_id(unit), 0, 512),
    ]
    assert len(set(variants)) == len(variants)
    assert base.unit_id(unit) == config(folder).unit_id(unit)


def test_a_run_id_belongs_to_one_config(archive):
    folder, _, state = archive
    state.claim(config(folder))
    state.claim(config(folder))
    with pytest.raises(RunConflict, match="model_digest"):
        state.claim(config(folder).model_copy(update={"model_digest": "e" * 64}))


def commit_empty(state, number, part, next_offset):
    footer = Footer(
        unit_id="u",
        slice=0,
        number=number,
        part=part,
        date="none",
        scored=0,
        errors=0,
        next_offset=next_offset,
        device="cpu",
        bytes_read=0,
        ignored=0,
        seconds=StageSeconds(),
    )
    return write_commit(state.store, state.commit_key(0, number, part), commit_schema.SCHEMA.empty_table(), footer)


def test_pending_is_plan_minus_commits(archive):
    _, _, state = archive
    units = [UnitOutline(n, "none", None if n >= 3 else 8) for n in range(7)]
    assert [item.number for item in pending(state, 0, units)] == list(range(7))
    assert commit_empty(state, 1, 0, None)
    assert not commit_empty(state, 1, 0, None)
    commit_empty(state, 3, 0, None)
    commit_empty(state, 4, 0, 1024)
    commit_empty(state, 4, 1, 4096)
    commit_empty(state, 5, 0, 1024)
    commit_empty(state, 5, 2, 9000)  # a gap: part 1 is missing
    commit_empty(state, 6, 1, None)
    assert list(pending(state, 0, units)) == [
        WorkItem(0),
        WorkItem(2),
        WorkItem(4, 4096, 2),
        WorkItem(5, 1024, 1),
        WorkItem(6),
    ]
    assert list(pending(state, 0, units[1:3])) == [WorkItem(2)]
