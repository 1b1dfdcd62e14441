"""What a held slice says of itself: why, with examples, and what to do."""

import shlex

import pyarrow as pa
import pytest
from fake_run import FIRST, MODEL, failed, published, scored, write_slice

from pipeline.state.entries import read_slice
from pipeline.state.ledger import Ledger
from pipeline.state.tally import add_up, read_failed
from pipeline.tables.held import HoldLimits, Reason, SliceHeld, check_errors, named, reasons_of
from pipeline.tables.publish_slice import publish_slice
from schemas.tally import SCHEMA, Tally

DAY = "2026-01-01"
NONE = pa.array([], pa.string())
STRICT = HoldLimits(min_errors=1)
REASONS = ("gone", "empty", "corrupt", "truncated", "too_large", "refused", "archived")


def said(ledger, number, limits=STRICT):
    """The lines of the error with which the slice is held."""
    with pytest.raises(SliceHeld) as held:
        publish_slice(ledger, number, limits)
    return str(held.value).splitlines()


def test_the_five_most_frequent_errors_are_listed_each_with_a_key(tmp_path):
    rows = [failed(f"{name}{i}", name) for count, name in enumerate(REASONS, 1) for i in range(count)]
    number = write_slice(tmp_path, [(DAY, [scored("good", 1.0), *rows])])
    first, *reasons, look, accept = said(Ledger(str(tmp_path), MODEL), number)
    assert first.endswith("got 96.55% (28 of 29). Nothing of the slice is published. Its errors:")
    assert reasons == [
        "  7 archived, for example 'archived0'",
        "  6 refused, for example 'refused0'",
        "  5 too_large, for example 'too_large0'",
        "  4 truncated, for example 'truncated0'",
        "  3 corrupt, for example 'corrupt0'",
        "  3 with 2 other errors",
    ]
    assert look.startswith("Look at them: flowscore query") and "accept the errors: flowscore finalize" in accept


def test_the_commands_can_be_pasted_into_a_shell(tmp_path):
    output = tmp_path / "it's out"
    number = write_slice(output, [(DAY, [failed("c")])])
    look, accept = (shlex.split(line.partition(": ")[2]) for line in said(Ledger(str(output), MODEL), number)[-2:])
    query = f"select error, message, uri, member from errors where run_id = '{MODEL}-{number:06d}'"
    assert look == ["flowscore", "query", "--output", str(output), "--unpublished", query]
    assert accept == [
        *("flowscore", "finalize", "--output", str(output), "--model", MODEL),
        "--slice",
        str(number),
        "--accept-errors",
    ]


def test_a_mended_image_is_neither_counted_nor_the_example(tmp_path):
    number = write_slice(tmp_path, [(DAY, [failed("a"), failed("b"), failed("c", "empty"), scored("d", 1.0)])])
    published(tmp_path, [(DAY, [scored("a", 1.0), scored("c", 2.0)])])
    lines = said(Ledger(str(tmp_path), MODEL), number)
    assert "(1 of 4)" in lines[0] and lines[1:-2] == ["  1 truncated, for example 's3://line/b'"]


def test_a_tally_of_before_names_objects(tmp_path):
    """It keeps no keys."""
    ledger = Ledger(str(tmp_path), MODEL)
    number = write_slice(tmp_path, [(DAY, [failed("a"), failed("b")])])
    counts = add_up(ledger, number, read_slice(ledger, number))
    old = Tally(quarantined=counts.quarantined, reasons=counts.reasons)
    with pytest.raises(SliceHeld, match="2 truncated, for example 's3://line/a'"):
        check_errors(ledger, number, old, read_failed(ledger, number), NONE, STRICT)
    assert named(reasons_of(old)) == ["2 truncated"]


def test_an_archive_holds_a_slice_and_is_named(tmp_path):
    number = write_slice(tmp_path, [(DAY, [scored("a", 1.0), failed("x.zip", "unsupported_archive")])])
    lines = said(Ledger(str(tmp_path), MODEL), number, HoldLimits())
    assert "got 1 that are not: 'x.zip'" in lines[0] and lines[1] == "  1 unsupported_archive, for example 'x.zip'"
    assert len(lines) == 4


def test_few_errors_hold_nothing_and_accepted_ones_neither():
    failed_objects = pa.Table.from_pylist([{"object": "a", "outcome": "gone", "images": 19}], SCHEMA)
    ledger, tally = Ledger("/none", MODEL), Tally(quarantined=19, reasons={"gone": 19})
    check_errors(ledger, FIRST, tally, failed_objects, NONE, HoldLimits())
    check_errors(ledger, FIRST, tally, failed_objects, NONE, HoldLimits(min_errors=1, accept=True))


def test_a_name_that_would_break_the_line_is_quoted():
    assert str(Reason("gone", 1000, "a\nb")) == "1,000 gone, for example 'a\\nb'"
