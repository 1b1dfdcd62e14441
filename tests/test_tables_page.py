"""docs/tables.md agrees with the schemas."""

import docs_script


def test_the_page_is_up_to_date():
    make_tables = docs_script.load("make_tables.py")
    assert make_tables.PAGE.read_text(encoding="utf-8") == make_tables.page(), "run `make tables`"
