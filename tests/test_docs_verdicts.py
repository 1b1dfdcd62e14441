"""What the pages say of verdicts: every query in them runs over judged tables, and the reasons are those of the code."""

import re
import shlex
from fractions import Fraction
from pathlib import Path

import pytest
import yaml
from judged_ledger import calibration, image, publish, put_rule

from jobs.settings.verdicts import VerdictOptions
from models.verdicts.rates import rate_of
from pipeline.tables.query import open_tables
from pipeline.verdicts.rule import Rule

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
VERDICTS = (ROOT / "docs" / "verdicts.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SAYS = ["pipeline/verdicts", "models/verdicts/pieces.py", "models/calibration/lot_decision.py", "pipeline/tables/lot_rows.py"]


def queries(page):
    blocks = [text for language, text in BLOCK.findall(page.read_text(encoding="utf-8")) if not language]
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    # What is not published has tables of its own: tests/jobs/test_query.py and the analyst's walk ask them.
    return [shlex.split(line)[-1] for line in lines if line.startswith("flowscore query") and "--unpublished" not in line]


QUERIES = [(page.name, query) for page in PAGES for query in queries(page)]


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """A lot to hold, a lot that is good, and a piece that lacks a view."""
    output = tmp_path_factory.mktemp("judged") / "out"

    def views(lot, serial, score):
        return [image(lot, serial, score, camera) for camera in ("top", "side")]

    publish(output, [("2026-05-04", views("L0", "1", 0.0) + [image("L0", "2", None)])])
    put_rule(output, calibration(), rate="0.1")
    rows = [row for at in range(10) for row in views("bad", str(at), 9.0)] + views("good", "1", 0.0)
    publish(output, [("2026-05-05", [*rows, image("good", "2", 0.0)])])
    return open_tables(str(output))


@pytest.mark.parametrize(("page", "query"), QUERIES, ids=[f"{page}: {query[:40]}" for page, query in QUERIES])
def test_the_query_finds_something(tables, page, query):
    with tables.answer(query) as answer:
        assert answer.to_arrow_table().num_rows > 0


def test_the_page_asks_what_users_ask(tables):
    look_at, on_hold, why, decided = [query for page, query in QUERIES if page == "verdicts.md"]
    assert len(tables.connection.sql(look_at).fetchall()) == 10, "pieces, not images"
    assert tables.connection.sql(look_at).fetchall()[0][3:5] == (1, 100)
    assert [row[:4] for row in tables.connection.sql(on_hold).fetchall()] == [("2026-05-05", "bad", 10, 10)]
    assert tables.connection.sql(why).fetchall() == [("1 of 2 views", 1, 1)]
    settings = tables.connection.sql(decided).project("setting, new, decided_by").fetchall()
    assert settings == [("calibration", "c" * 64, "a test"), ("rate", "0.1", "a test")]


def fragments(text):
    """What must stand in the code, between the placeholders of a reason and the words that the code puts in."""
    return [part for part in re.split(r"<[^>]*>|'| piece | images| views", text) if len(part) > 4]


def test_the_reasons_are_those_of_the_code():
    files = [path for place in SAYS for path in ([ROOT / place] if place.endswith(".py") else (ROOT / place).glob("*.py"))]
    source = "".join(path.read_text(encoding="utf-8") for path in files)
    table = VERDICTS[VERDICTS.index("| `reason` | what to do |") : VERDICTS.index("A calibration judges scores of one device")]
    reasons = re.findall(r"^\| `(.*?)` \|", table, re.MULTILINE)[1:]
    assert len(reasons) == 14
    missing = [(reason, part) for reason in reasons for part in fragments(reason) if part not in source]
    assert not missing
    assert all(state in source for state in ("no image of it is left", "no piece could be judged"))


def test_the_settings_are_those_of_the_commands():
    (block,) = re.findall(r"^```yaml\n(verdicts:.*?)^```", VERDICTS, re.MULTILINE | re.DOTALL)
    given = yaml.safe_load(block)["verdicts"]
    options = VerdictOptions.model_validate(given)
    assert set(given) == set(VerdictOptions.model_fields) - {"decided_by", "review_budget"}
    assert rate_of(str(options.rate)) == Fraction(1, 100)
    assert f"at first the rate is {Rule().rate}" in VERDICTS
