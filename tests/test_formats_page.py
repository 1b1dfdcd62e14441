"""docs/formats.md describes what the decoder does."""

import docs_script


def test_the_page_is_up_to_date():
    make_formats = docs_script.load("make_formats.py")
    assert make_formats.PAGE.read_text(encoding="utf-8") == make_formats.page(), "run `make tables`"
