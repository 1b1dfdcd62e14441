import pytest

from pipeline.decode.config import DecodeConfig
from pipeline.input.config import SourceConfig
from pipeline.state.entries import (
    Created,
    Head,
    NoSuchSlice,
    Promotion,
    Rekey,
    Slice,
    SlicePart,
    add_entry,
    is_slice,
    read_head,
    read_slice,
)
from pipeline.state.ledger import Ledger, OtherLayout, ledgers
from pipeline.state.scoring_config import ScoringConfig


def sealed(last_day=None, **more):
    source = SourceConfig(input_uri="s3://plant/in")
    scoring = ScoringConfig(model="tiles", model_digest="a", source=source, decode=DecodeConfig(height=8, width=8))
    counts = dict.fromkeys(("objects", "units", "images", "streams", "size", "ignored", "replans"), 1)
    part = SlicePart(name="p", first=0, objects=1, units=1)
    same = {"promotions": (2,), "planned_at": "now", "code_version": "1", "last_day": last_day}
    return Slice(parts=(part,), scorings=(scoring,), **counts, **same, **more)


@pytest.fixture
def ledger(tmp_path):
    ledger = Ledger(str(tmp_path), "tiles")
    entries = [
        Created(image_id="uri", key_pattern="{line}/{name}"),
        Promotion(digest="a", artifact={}),
        sealed("2026-01-05"),
        Promotion(digest="b", from_day="2026-01-06", artifact={}),
        sealed("2026-01-07"),
        Rekey(key_pattern="{hall}/{name}"),
    ]
    head = Head()
    for entry in entries:
        assert add_entry(ledger, head, entry)
        head = read_head(ledger)
    return ledger


def test_what_the_entries_add_up_to(ledger):
    head = read_head(ledger)
    assert (head.number, head.digest, head.last_day, head.slices) == (6, "b", "2026-01-07", (3, 5))
    assert head.key_pattern == "{hall}/{name}"
    assert [is_slice(ledger, number) for number in range(1, 7)] == [False, False, True, False, True, False]
    assert read_head(ledger, read_head(ledger)) == head, "read on from where it was"


def test_the_model_of_a_day(ledger):
    head = read_head(ledger)
    days = {"2025-12-31": "a", "2026-01-05": "a", "2026-01-06": "b", "2027-01-01": "b", "none": "b", "lot 7": "b"}
    assert {day: head.digest_of(day) for day in days} == days


def test_a_number_belongs_to_whoever_is_first(ledger):
    head = read_head(ledger)
    assert add_entry(ledger, head, sealed("2026-02-01"))
    assert not add_entry(ledger, head, sealed("2027-02-01"))
    assert read_head(ledger).last_day == "2026-02-01"


def test_a_number_that_is_no_slice_is_named(ledger):
    for number in (0, 4, 99):
        with pytest.raises(NoSuchSlice, match=f"got {number}"):
            read_slice(ledger, number)


def test_the_ledgers_of_an_output_and_state_of_another_layout(ledger):
    other = Ledger(ledger.output_uri, "a-model")
    add_entry(other, Head(), Created(image_id="uri", key_pattern=None))
    assert ledgers(ledger.output_uri) == [other, ledger]
    ledger.store.put("_flowscore/runs/0123/config.json", b"{}")
    with pytest.raises(OtherLayout, match="Choose another --output"):
        ledgers(ledger.output_uri)
