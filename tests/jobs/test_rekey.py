import pytest
from published_rows import new_ledger, publish_rows, seal_slice

from jobs.command.entry import run
from jobs.doctor import state
from jobs.rekey import main
from pipeline.state.entries import read_head
from pipeline.state.ledger import Ledger
from pipeline.tables.query import open_tables
from pipeline.tables.rekey import begin

OLD, NEW = "{line}/{lot}/{name}", "{hall}/{line}/{name}"
ROWS = [("north/l1/a.png", None, 1.0), ("north/l2/b.png", None, 3.0)]


@pytest.fixture
def rekey(capsys):
    def call(output, *arguments, code=0):
        try:
            run(main, ["--output", str(output), *arguments])
        except SystemExit as ended:  # pytest.raises would keep its frames, and with them DuckDB, beyond the interpreter's end
            found = ended.code
        shown = capsys.readouterr()
        assert found == code, shown.err
        return shown.out or shown.err

    return call


def test_rows_have_the_columns_of_the_new_pattern(tmp_path, rekey):
    publish_rows(new_ledger(tmp_path, OLD), "s3://plant/in", ROWS)
    said = rekey(tmp_path, "--model", "tiles", "--key-pattern", NEW)
    assert said.splitlines() == [
        f"key pattern {NEW}: 2 of 2 paths match",
        "  north/l1/a.png: hall north, line l1",
        "  north/l2/b.png: hall north, line l2",
        f"model tiles: key columns of 2 images are read by {NEW}",
    ]
    with open_tables(str(tmp_path)).answer("select hall, line, lot from scores order by uri") as answer:
        assert answer.fetchall() == [("north", "l1", None), ("north", "l2", None)]
    assert rekey(tmp_path, "--model", "tiles", "--key-pattern", NEW) == f"model tiles: all rows follow {NEW} already\n"


def test_a_pattern_of_images_to_come_is_taken_though_no_row_fits_it(tmp_path, rekey):
    """From then on they lie otherwise, and `score` takes no other pattern."""
    publish_rows(new_ledger(tmp_path, OLD), "s3://plant/in", ROWS)
    pattern = "{hall}/{line}/{lot}/{name}"
    warning, last = rekey(tmp_path, "--model", "tiles", "--key-pattern", pattern).splitlines()
    assert warning.startswith(f"warning: key pattern {pattern}: none of 2 paths matches, such as north/l1/a.png: ")
    assert last == f"model tiles: key columns of 2 images are read by {pattern}"
    assert read_head(Ledger(str(tmp_path), "tiles")).key_pattern == pattern
    with open_tables(str(tmp_path)).answer("select hall, line, lot from scores") as answer:
        assert answer.fetchall() == [(None, None, None)] * 2


def test_a_model_without_rows(tmp_path, rekey):
    new_ledger(tmp_path, OLD)
    assert "no row had to change" in rekey(tmp_path, "--model", "tiles", "--key-pattern", NEW)


def test_a_rekey_that_was_stopped_is_named_and_finished(tmp_path, rekey):
    ledger = new_ledger(tmp_path, OLD)
    publish_rows(ledger, "s3://plant/in", ROWS)
    begin(ledger, NEW)
    assert [found.level for found in state(str(tmp_path)) if "rekey" in found.text] == ["warn"]
    assert "key columns of 2 images" in rekey(tmp_path, "--model", "tiles", "--key-pattern", NEW)
    assert not [found for found in state(str(tmp_path)) if "rekey" in found.text]


@pytest.mark.parametrize(
    ("model", "pattern", "said"),
    [
        ("casting", NEW, "error: --model must be that of a scoring run; got 'casting'. Models there: tiles."),
        ("tiles", "{line", "braces in pairs"),
        ("tiles", "{verdict}/{name}", "'verdict' is one"),
    ],
)
def test_what_cannot_be_is_one_line(tmp_path, rekey, model, pattern, said):
    publish_rows(new_ledger(tmp_path, OLD), "s3://plant/in", ROWS)
    shown = rekey(tmp_path, "--model", model, "--key-pattern", pattern, code=2)
    assert said in shown and shown.count("\n") == 1
    assert read_head(Ledger(str(tmp_path), "tiles")).key_pattern == OLD


def test_an_output_without_models(tmp_path, rekey):
    assert "Nothing was scored into it" in rekey(tmp_path, "--model", "tiles", "--key-pattern", NEW, code=2)


def test_slices_that_wait_are_named(tmp_path, rekey):
    ledger = new_ledger(tmp_path, OLD)
    seal_slice(ledger, "s3://plant/in")
    shown = rekey(tmp_path, "--model", "tiles", "--key-pattern", NEW, code=2)
    assert "slices of model tiles must all be published before a rekey; 2 wait(s)" in shown and shown.count("\n") == 1


def test_the_pattern_is_tried_on_rows_of_every_input(tmp_path, rekey, monkeypatch):
    """One that fits the second input only: the rows of the first would be all that is looked at."""
    ledger = new_ledger(tmp_path, OLD)
    publish_rows(ledger, "s3://plant/old", [(f"north/{number}.png", None, 1.0) for number in range(4)])
    publish_rows(ledger, "s3://plant/in", ROWS)
    monkeypatch.setattr("jobs.rekey.LOOKED_AT", 4)
    said = rekey(tmp_path, "--model", "tiles", "--key-pattern", NEW)
    assert f"key pattern {NEW}: 2 of 4 paths match" in said and "model tiles: key columns of 2 images" in said
