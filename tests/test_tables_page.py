"""docs/tables.md says what the schemas say."""

import importlib.util
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "docs" / "make_tables.py"


def test_the_page_is_up_to_date():
    spec = importlib.util.spec_from_file_location("make_tables", SCRIPT)
    make_tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make_tables)
    assert make_tables.PAGE.read_text(encoding="utf-8") == make_tables.page(), "run `make tables`"
