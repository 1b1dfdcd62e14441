"""The pages name only files that are in the repository."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PATH = re.compile(r"`([^`\s]+\.(?:py|md|yaml))`")
MADE = {"card.md", "prices.yaml", "vit.yaml"}  # by train beside the weights, and by the reader for `bench --plan` and `train`


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_paths_in_backticks_exist(page):
    named = set(PATH.findall(page.read_text(encoding="utf-8"))) - MADE
    assert not {path for path in named if "<" not in path and not any(ROOT.glob(path))}
