"""An analyst's day on tables in storage: what there is, what failed and why, a held slice, pandas, a file for others."""

import json
import os
import re
import shlex
import subprocess
import sys

import duckdb
import pytest
from e2e_archives import ROOT, command, encoded

from pipeline.storage.store import open_store

PATTERN = "{line}/{date}/{lot}/{name}"
DAY = "2024-06-03"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def put(bucket, date, images):
    for name, content in images.items():
        open_store(f"{bucket}/archive").put(f"l1/{date}/{name}", content)


@pytest.fixture
def nights(model, s3_bucket):
    """A published night with one damaged image, and one that is held; the place of the tables, and what the second said."""
    whole = encoded(1000)
    score = (
        *("score", "--model", model, "--input", f"{s3_bucket}/archive", "--output", f"{s3_bucket}/results"),
        *("--key-pattern", PATTERN, "--device", "cpu", "--min-errors", "3"),
    )
    put(s3_bucket, DAY, {f"L{number % 2}/{number:03d}.png": encoded(number) for number in range(20)})
    put(s3_bucket, DAY, {"L1/cut.png": whole[: len(whole) // 2]})
    command(*score)
    put(s3_bucket, "2024-06-04", {f"L9/{number}.png": whole[: 300 + number] for number in range(4)})
    held = command(*score, check=False)
    assert held.returncode == 3, held.stderr
    return f"{s3_bucket}/results", held


def test_what_failed_where_and_why(nights, tmp_path):
    output, held = nights

    def ask(*arguments, check=True):
        return command("query", "--output", output, *arguments, check=check)

    shown = ask("show tables").stdout
    documented = re.findall(r"^## (\w+)$", (ROOT / "docs" / "tables.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert {name for name in re.findall(r"│ (\w+) +│", shown) if name != "name"} == set(documented)

    both = ask("select count(*) as images from scores; select line, lot, error, count(*) as n from errors group by all").stdout
    assert re.search(r"images.*20.*truncated", both, re.DOTALL)
    (row,) = map(json.loads, ask("--json", "select line, lot, error, date from errors").stdout.splitlines())
    assert row == {"line": "l1", "lot": "L1", "error": "truncated", "date": DAY}
    wrong = ask("select nonsense from scores", check=False)
    assert wrong.returncode == 2 and wrong.stderr.count("\n") == 1 and "nonsense" in wrong.stderr

    # The held night: look, then accept, each by the command that the log names.
    said = held.stdout + held.stderr
    assert "for example 'l1/2024-06-04/L9/0.png'" in said
    look, accept = (re.search(rf"(flowscore {verb} .*)", said)[1] for verb in ("query", "finalize"))
    assert look.index("--unpublished") and said.index(look) < said.index(accept)
    assert "truncated" in command(*shlex.split(look)[1:]).stdout
    assert "0 scored, 4 in errors" in command(*shlex.split(accept)[1:]).stdout
    assert ask("--csv", "select lot, count(*) from errors group by all order by all").stdout.splitlines()[1:] == [
        '"L1",1',
        '"L9",4',
    ]

    # The lines of docs/tables.md in pandas, on this http endpoint.
    page = (ROOT / "docs" / "tables.md").read_text(encoding="utf-8")
    snippet = re.search(r"```python\n(.*?)```", page, re.DOTALL)[1].replace("s3://plant/results", output)
    done = subprocess.run(
        [sys.executable, "-c", snippet + "\nprint(len(night), sorted(night.columns))"],
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.strip() == "20 ['lot', 'score', 'uri']", done.stderr

    ask("--parquet", tmp_path / "worst.parquet", "select uri, score from scores order by score desc limit 5")
    assert duckdb.sql(f"select count(*), min(score) > 0 from '{tmp_path}/worst.parquet'").fetchall() == [(5, True)]
