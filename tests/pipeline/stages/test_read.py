"""What a read task gives when it runs again: nothing that is committed is read a second time."""

import threading

import pytest
from e2e_archives import encoded, write_files, write_tars

from pipeline.decode.config import DecodeConfig
from pipeline.decode.unit import decode_unit
from pipeline.input.config import SourceConfig
from pipeline.input.listing import Listing
from pipeline.stages import read as read_stage
from pipeline.stages.config import StageConfig
from pipeline.state import plan
from pipeline.state.commits import write_commit
from pipeline.state.entries import Created, Head, Promotion, add_entry, read_head
from pipeline.state.ledger import Ledger
from pipeline.state.scoring_config import ScoringConfig
from pipeline.storage.store import open_store
from schemas import commit
from schemas.envelope import DecodedUnit, WorkItem, item_table
from schemas.footer import Footer
from schemas.outcome import Outcome

SLICE = 3  # after the entries that make the ledger
IMAGES = {f"{i}.png": encoded(i) for i in range(5)}


@pytest.fixture
def config(tmp_path, monkeypatch):
    """A sealed slice: a tar of five images as one stream, and units of two loose images."""
    write_tars(tmp_path / "in" / "a", IMAGES)
    write_files(tmp_path / "in" / "b", IMAGES)
    scoring = ScoringConfig(
        model="m",
        model_digest="d",
        source=SourceConfig(input_uri=str(tmp_path / "in"), unit_images=2),
        decode=DecodeConfig(height=8, width=8),
    )
    ledger = Ledger(str(tmp_path / "out"), scoring.model)
    add_entry(ledger, Head(), Created(image_id="uri", key_pattern=None))
    add_entry(ledger, read_head(ledger), Promotion(digest=scoring.model_digest, artifact={}))
    store = open_store(scoring.source.input_uri)
    assert plan.plan_slice(ledger, plan.Wanted(store, lambda: Listing(scoring.source, store), lambda digest: scoring)) == SLICE
    monkeypatch.setattr(read_stage, "decode_in_child", lambda table, decode, timeout_s: decode_unit(table, decode))
    return StageConfig(ledger, SLICE, scoring, "", "")


def read(config, number, part=0, offset=0):
    return units(item_table([WorkItem(number, offset, part)]), config)


def units(items, config):
    tables = read_stage.read_and_decode(items, config)
    return [next(Outcome.all_in(table)) if Outcome.is_in(table) else DecodedUnit.of(table) for table in tables]


def commit_it(config, unit):
    footer = Footer(slice=0, scored=2, errors=0, device="cpu", scoring_version=5, seconds=unit.seconds, **unit.label._asdict())
    key = config.ledger.commit_key(SLICE, footer.number, footer.part)
    assert write_commit(config.ledger.store, key, commit.SCHEMA.empty_table(), footer)


def test_a_unit_that_is_committed_comes_as_its_counts(config):
    (unit,) = read(config, 1)
    assert isinstance(unit, DecodedUnit)
    commit_it(config, unit)
    assert read(config, 1) == [Outcome(1, 0, scored=2)]
    (other,) = read(config, 2)
    assert isinstance(other, DecodedUnit)


def test_a_stream_goes_on_behind_what_is_committed_in_as_many_parts(config):
    first = read(config, 0)
    assert [unit.label.part for unit in first] == [0, 1, 2]
    commit_it(config, first[2])  # of no use yet: there is a gap before it
    assert not any(isinstance(unit, Outcome) for unit in read(config, 0))
    commit_it(config, first[0])
    again = read(config, 0)
    assert [isinstance(unit, Outcome) for unit in again] == [True, False, False]
    assert [unit.label.unit_id for unit in again[1:]] == [unit.label.unit_id for unit in first[1:]]
    commit_it(config, first[1])
    assert [isinstance(unit, Outcome) for unit in read(config, 0)] == [True, True, True]
    resumed = read(config, 0, part=1, offset=first[0].label.next_offset)
    assert resumed == [Outcome(0, 1, scored=2), Outcome(0, 2, scored=2)]


def test_the_next_unit_is_read_while_one_is_decoded(config, monkeypatch):
    read_units, read_before = [], []
    read_one, decode_one = read_stage.read_unit, read_stage.decoded
    third = threading.Event()

    def counting(item, config):
        for unit in read_one(item, config):
            read_units.append(item.number)
            if item.number == 3:
                third.set()
            yield unit

    def decoding(unit, config):
        if unit.label.number == 2:
            assert third.wait(20), "unit 3 must be read before 2 is decoded"
        read_before.append(len(read_units))
        return decode_one(unit, config)

    monkeypatch.setattr(read_stage, "read_unit", counting)
    monkeypatch.setattr(read_stage, "decoded", decoding)
    found = units(item_table([WorkItem(number) for number in (1, 2, 3)]), config)
    assert [unit.label.number for unit in found] == read_units == [1, 2, 3]
    assert max(count - done for done, count in enumerate(read_before)) <= 2, "no more than one ahead"
