"""The logs of nights in docs/operating.md are as printed; test_walk_platform_engineer.py has a real job for the first."""

from docs_script import load


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
