"""docs/accuracy.md names every table that docs/benchmarks/accuracy/page.py makes, and nothing else is replaced."""

import os
import sys

import pytest
from docs_script import DOCS, load


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(DOCS / "benchmarks" / "accuracy"))
    yield load("benchmarks/accuracy/page.py")
    for name in ("auto", "few_images", "light", "protocol", "surfaces"):
        sys.modules.pop(name, None)


def test_every_table_has_its_place_and_the_text_stays(page) -> None:
    before = (DOCS / "accuracy.md").read_text(encoding="utf-8")
    found = page.filled(before, {name: lambda name=name: f"made: {name}" for name in page.TABLES})
    assert all(f"\nmade: {name}\n<!-- end -->" in found for name in page.TABLES)
    assert page.PLACE.sub("", found) == page.PLACE.sub("", before)


@pytest.mark.skipif(not os.environ.get("FLOWSCORE_ASSETS"), reason="assets/mtd is not there: set FLOWSCORE_ASSETS")
def test_the_page_is_what_the_command_writes(page) -> None:
    shown = (DOCS / "accuracy.md").read_text(encoding="utf-8")
    assert page.filled(shown, page.TABLES) == shown


@pytest.mark.parametrize("text", ["", "<!-- table: one -->\n<!-- end -->" * 2, "<!-- table: two -->\n<!-- end -->"])
def test_a_table_that_is_missing_twice_there_or_unknown_is_refused(page, text: str) -> None:
    with pytest.raises(ValueError, match="must have each of"):
        page.filled(text, {"one": str})
