"""Fill the tables of docs/accuracy.md from the runs that are kept beside this file. It trains nothing; its text stays.

    python docs/benchmarks/accuracy/page.py

A table stands between `<!-- table: NAME -->` and `<!-- end -->`. The runs are those of protocol.py, few_images.py, light.py and
auto.py, which also say how they are made. Needs FLOWSCORE_ASSETS (which tiles are known is read there).
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import auto_tables  # beside this file, as the others
import few_images
import light
import protocol

PAGE = Path(__file__).resolve().parents[2] / "accuracy.md"
TABLES: dict[str, Callable[[], str]] = {
    "detectors": protocol.table,
    "kinds": protocol.kinds,
    "auto, published": lambda: auto_tables.table("published"),
    "auto, folds": lambda: auto_tables.table("fold"),
    "auto, surfaces": lambda: auto_tables.table(auto_tables.SURFACE),
    "auto, kinds": auto_tables.kinds,
    "auto, gains": auto_tables.against_flows_alone,
    "agreement": auto_tables.agreement,
    "light": light.tables,
    "few images": few_images.table,
}
PLACE = re.compile(r"<!-- table: (.+?) -->\n(.*?)<!-- end -->", re.DOTALL)


def filled(page: str, tables: Mapping[str, Callable[[], str]]) -> str:
    """The page with every table made anew. Raises ValueError for a table that it does not name once, or that nothing makes.

    >>> filled("<!-- table: one -->\\nold\\n<!-- end -->", {"one": lambda: "new"})
    '<!-- table: one -->\\nnew\\n<!-- end -->'
    """
    named = [found[1] for found in PLACE.finditer(page)]
    if sorted(named) != sorted(tables):
        raise ValueError(f"the page must have each of {sorted(tables)} once; got {sorted(named)}.")
    return PLACE.sub(lambda found: f"<!-- table: {found[1]} -->\n{tables[found[1]]()}\n<!-- end -->", page)


def main() -> None:
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), TABLES), encoding="utf-8")


if __name__ == "__main__":
    main()
