"""Runs the demo as `make demo` does, with fewer pictures, then checks what README and docs/tables.md say of its tables."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
COMMANDS = ["train", "calibrate", "score", "query", "query", "query", "report"]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The demo's folder and output."""
    folder = tmp_path_factory.mktemp("demo")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    done = subprocess.run(
        [sys.executable, "-m", "jobs.demo", "--directory", str(folder), "--images", "120"],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done.stdout


def test_the_demo_shows_the_commands_it_runs(demo):
    assert re.findall(r"^\$ flowscore (\w+)", demo[1], re.MULTILINE) == COMMANDS


def test_the_defects_rank_first(demo):
    assert float(re.search(r"^  all +([0-9.]+)$", demo[1], re.MULTILINE)[1]) > 0.8


def test_verdicts_are_said(demo):
    said = re.search(
        r"^Flagged: (\d+) of (\d+) defective pictures, and (\d+) of (\d+) good ones. On hold: (\d+) of 12 lots",
        demo[1],
        re.MULTILINE,
    )
    found, bad, false, good, held = map(int, said.groups())
    assert found > bad / 2 and false < good / 5 and held > 0


def test_it_leaves_a_page_and_a_picture(demo):
    page = (demo[0] / "report.html").read_text(encoding="utf-8")
    assert "What to do tonight" in page and "Lots to hold" in page
    assert "<svg" in page and "data:image/jpeg;base64," in page and "http://" not in page.replace("http://www.w3.org", "")
    with Image.open(demo[0] / "worst.png") as sheet:
        assert min(sheet.size) > 400


def test_the_python_example_of_the_tables_page_runs(demo):
    page = (ROOT / "docs" / "tables.md").read_text(encoding="utf-8")
    example = re.search(r"```python\n(.*?)```", page, re.DOTALL)[1]
    names = {}
    exec(example.replace("s3://plant/results", str(demo[0] / "tables")), names)
    assert 0 < len(names["night"]) and set(names["night"].columns) == {"uri", "lot", "score"}


def test_a_map_s_value_is_what_the_tables_page_says(demo):
    """Its bytes span the map's values, and those of the pictures that score high are above nearly all others."""
    from pipeline.tables.query import open_tables

    query = "select map, map_height, map_width, map_scale, map_offset, score from maps join scores using (model, image_id)"
    rows = open_tables(str(demo[0] / "tables")).connection.sql(query).fetchall()
    for map_bytes, height, width, *_ in rows:
        assert len(map_bytes) == height * width and (min(map_bytes), max(map_bytes)) == (0, 255)
    peaks = np.array([offset + scale * max(map_bytes) for map_bytes, _, _, scale, offset, _ in rows])
    scores = np.array([row[-1] for row in rows])
    high = scores >= np.quantile(scores, 0.8)  # a part of the pictures that are defective
    assert np.median(peaks[high]) > np.quantile(peaks[~high], 0.95) > 0
