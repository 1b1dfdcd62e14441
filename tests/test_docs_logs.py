"""The logs of nights in docs/operating.md are as printed; test_walk_platform_engineer.py has a real job for the first."""

import io

from docs_script import load

from jobs.command.progress import Progress
from pipeline.state.attempts import Attempt
from pipeline.state.ledger import Ledger


def test_the_logs_are_as_they_are_printed():
    script = load("make_logs.py")
    made, there = script.logs(), script.written()
    assert list(there) == list(made), "the titles on the page"
    for title, log in made.items():
        assert there[title] == log, f"{title}: `make tables` writes it"


def test_the_page_shows_logs_in_one_form_only():
    script = load("make_logs.py")
    text = script.PAGE.read_text(encoding="utf-8")
    assert script.page(script.written()) == text and text.count("```text") == len(script.written())


def test_lines_of_a_slow_machine_are_left_out_and_the_page_says_so():
    script = load("make_logs.py")
    clock = [100.0]
    printed = io.StringIO()
    with Progress("tiles slice 3: scoring", None, stream=printed, clock=lambda: clock[0]) as progress:
        progress.update(0)
        clock[0] += 130
        progress.still()
    first, still, _ = [line.partition(" ")[2] for line in printed.getvalue().splitlines()]
    left = script.as_of_one_night(printed.getvalue(), {})
    assert [line.partition(" ")[2] for line in left.splitlines()] == [first, first], "said again at the end"
    page = script.PAGE.read_text(encoding="utf-8")
    assert f"it is `{still}`; these lines are left out here" in page


def test_the_line_about_other_gpus_is_quoted_as_it_is_printed(tmp_path):
    ledger = Ledger(str(tmp_path), "tiles")
    with Attempt(ledger, 12, lambda: 0.0) as first:
        first.note({"H100"})
    with Attempt(ledger, 12, lambda: 0.0) as second:
        line = second.note({"L4"})
    assert line is not None and f"`{line.partition('L4')[0]}...`" in load("make_logs.py").PAGE.read_text(encoding="utf-8")
