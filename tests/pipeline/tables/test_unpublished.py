"""What is scored and held can be looked at before anybody accepts it."""

import pytest
from fake_run import MODEL, SOURCE, failed, published, run_id, scored, write_slice

from pipeline.state.entries import read_slice
from pipeline.state.ledger import Ledger, drop_commits
from pipeline.state.tally import add_up
from pipeline.storage.store import open_store
from pipeline.tables import unpublished
from pipeline.tables.query import NotAnswered
from pipeline.tables.unpublished import PublishedMeanwhile, open_unpublished

DAY = "2026-01-01"


def held(output, content, model=MODEL, **options):
    """A slice that is scored and stays unpublished; its number."""
    number = write_slice(output, content, model=model, **options)
    ledger = Ledger(str(output), model)
    add_up(ledger, number, read_slice(ledger, number))
    return number


def ask(output, query, scratch):
    scratch.mkdir(exist_ok=True)
    opened = open_unpublished(str(output), query, scratch)
    with opened.tables.answer(query) as answer:
        return answer.fetchall(), opened.notes


def test_errors_and_scores_of_a_held_slice_are_shown_and_nothing_changes(place, tmp_path):
    content = [
        (DAY, [scored("a", 1.5), failed("c")]),
        ("2026-02-02", [scored("d", 2.5)]),
        (DAY, [failed("t/1", uri="s3://line/t.tar")]),
    ]
    number = held(place, content)
    before = {entry.key: entry.etag for entry in open_store(place).list()}
    columns = "slice, run_id, model, date, period, uri, member, stage, error, message, lot, line, product"
    rows, notes = ask(place, f"select {columns} from errors order by uri", tmp_path / "s")
    same = (number, run_id(number), MODEL, DAY, "2026-01")
    end = ("lot1", "7", "tile")
    assert rows == [
        (*same, "s3://line/c", None, "decode", "truncated", "c ends early", *end),
        (*same, "s3://line/t.tar", "t/1", "decode", "truncated", "t/1 ends early", *end),
    ]
    assert notes == [f"slice {number} of model {MODEL} is not published: 2 scored, 2 in errors"]
    query = "select slice, uri, date, score, verdict, reason, scored_at, grid, line from scores order by score desc"
    assert ask(place, query, tmp_path / "s")[0] == [
        (number, "s3://line/d", "2026-02-02", 2.5, "not_judged", "not published", None, "6 x 8", "7"),
        (number, "s3://line/a", DAY, 1.5, "not_judged", "not published", None, "6 x 8", "7"),
    ]
    assert {entry.key: entry.etag for entry in open_store(place).list()} == before


def test_errors_are_found_without_reading_the_commits_that_have_none(tmp_path, monkeypatch):
    held(tmp_path / "out", [(DAY, [scored("a", 1.0)]), (DAY, [failed("b")])])
    read, made = [], unpublished.error_rows
    monkeypatch.setattr(unpublished, "error_rows", lambda rows, *rest: read.append(rows.num_rows) or made(rows, *rest))
    assert ask(tmp_path / "out", "select uri from errors", tmp_path / "s")[0] == [("s3://line/b",)] and read == [1]


def test_published_slices_are_not_in_it_and_open_ones_are_named(tmp_path):
    out = tmp_path / "out"
    published(out, [(DAY, [failed("p")])])
    waits = held(out, [(DAY, [failed("h")])])
    still_open = write_slice(out, [(DAY, [failed("o")]), (DAY, [failed("q")])], skip=(1,))
    rows, notes = ask(out, "select slice, uri from errors", tmp_path / "s")
    assert rows == [(waits, "s3://line/h")]
    assert notes[1] == f"slice {still_open} of model {MODEL} has work units that are not scored; it is left out"


def test_mended_images_are_left_out(tmp_path):
    out = tmp_path / "out"
    number = held(out, [(DAY, [failed("a"), failed("b"), scored("c", 1.0)])])
    published(out, [(DAY, [scored("a", 2.0)])])
    rows, notes = ask(out, "select uri from errors", tmp_path / "s")
    assert rows == [("s3://line/b",)]
    mended = "left out, since a later slice has published them: 1 objects"
    assert notes == [f"slice {number} of model {MODEL} is not published: 1 scored, 2 in errors; {mended}"]


def test_models_with_other_keys_stand_side_by_side(tmp_path):
    out = tmp_path / "out"
    other = SOURCE.model_copy(update={"key_pattern": "{line}/{camera}/{name}"})
    first, second = held(out, [(DAY, [failed("a")])]), held(out, [(DAY, [failed("b")])], model="castings", source=other)
    rows, _ = ask(out, "select model, slice, line, product, camera from errors order by model desc", tmp_path / "s")
    assert rows == [(MODEL, first, "7", "tile", None), ("castings", second, "7", None, None)]


def test_a_key_that_is_called_slice_stays_what_it_is(tmp_path):
    source = SOURCE.model_copy(update={"key_pattern": "{slice}/{name}"})
    row = failed("a") | {"keys": [("slice", "upper")]}
    held(tmp_path / "out", [(DAY, [row])], source=source)
    assert ask(tmp_path / "out", "select slice, run_id from errors", tmp_path / "s")[0] == [("upper", run_id())]


def test_nothing_that_waits_is_said(tmp_path):
    published(tmp_path / "out", [(DAY, [failed("p")])])
    query = "select (select count(*) from errors) + (select count(*) from scores)"
    assert ask(tmp_path / "out", query, tmp_path / "s") == ([(0,)], ["no slice waits: what is scored is published"])


def test_the_two_tables_are_listed_and_no_other_can_be_asked(tmp_path):
    held(tmp_path / "out", [(DAY, [scored("a", 1.0), failed("b")])])
    assert ask(tmp_path / "out", "show tables", tmp_path / "s")[0] == [("errors",), ("scores",)]
    with pytest.raises(NotAnswered, match="tables errors, scores; got") as fault:
        ask(tmp_path / "out", "select * from maps", tmp_path / "s")
    assert "\n" not in str(fault.value)


def test_it_reaches_no_other_file(tmp_path):
    held(tmp_path / "out", [(DAY, [failed("b")])])
    for reach in ("read_text('/etc/hostname')", f"glob('{tmp_path}/out/*')"):
        with pytest.raises(NotAnswered, match="--allow-files"):
            ask(tmp_path / "out", f"select * from errors, {reach}", tmp_path / "s")


def test_a_slice_that_is_published_and_cleaned_meanwhile_is_no_empty_answer(tmp_path):
    number = held(tmp_path / "out", [(DAY, [failed("b")])])
    drop_commits(Ledger(str(tmp_path / "out"), MODEL), number)
    with pytest.raises(PublishedMeanwhile, match="Ask again"):
        ask(tmp_path / "out", "select * from errors", tmp_path / "s")
