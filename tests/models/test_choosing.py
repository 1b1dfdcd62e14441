"""`train --help` shows the figures of docs/accuracy.md."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from models import choosing, registry

ROOT = Path(__file__).parents[2]
WITH_HEADS = ("csflow", "fastflow")


def rows_of(table: str, page: str = "accuracy.md") -> tuple[list[str], dict[str, list[str]]]:
    """The heading of a table of a page, and its rows by their first cell."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    lines = text.split(f"<!-- table: {table} -->\n")[1].split("\n<!-- end -->")[0].splitlines()
    heading, _, *rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in lines]
    return heading, {row[0]: row for row in rows}


def test_the_figures_are_those_of_the_page() -> None:
    """Those of the defaults: of a flow that has a head by default, from the table of the flows with their heads."""
    heading, alone = rows_of("detectors")
    assert heading[4:7] == ["tile-disjoint: image AUROC", "pixel AUROC", "AUPRO"]
    heading, defaults = rows_of("auto, folds")
    assert heading[2:4] == ["image AUROC", "AUPRO"]
    heading, speeds = rows_of("speeds", "benchmarks/throughput/README.md")
    assert heading[1] == "images/s"
    for one in choosing.CHOICES:
        row = alone[one.detector]
        figures = [row[4], row[6]] if one.detector not in WITH_HEADS else defaults[one.detector][2:4]
        found = *(float(figure.split()[0]) for figure in figures), round(float(speeds[one.detector][1]))
        assert found == (one.image_auroc, one.aupro, one.images_per_s), one.detector


def test_every_detector_has_a_line_and_a_new_one_says_what_its_file_says(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [line.split()[0] for line in choosing.table().splitlines()[1:]] == [
        "csflow", "fastflow", "differnet", "cflow", "padim", "patchsvdd", "ensemble", "patchcore"
    ]  # fmt: skip
    monkeypatch.setattr(choosing, "CHOICES", choosing.CHOICES[1:])
    assert "csflow     not measured  CS-Flow on whitened multi-scale backbone features" in choosing.table()
    assert {one.detector for one in choosing.CHOICES} < set(registry.names())


def test_the_help_of_train_shows_them_and_loads_no_torch() -> None:
    code = (
        "import sys; from jobs.command.entry import run; from jobs.train import main\n"
        "try: run(main, ['--help'])\n"
        "finally: print('torch' in sys.modules, file=sys.stderr)\n"
    )
    environment = {**os.environ, "COLUMNS": "200"}
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0 and ended.stderr == "False\n", ended.stderr
    for line in choosing.table().splitlines():
        assert line in ended.stdout
