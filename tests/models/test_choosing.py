"""`train --help` shows the figures of docs/accuracy.md."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from models import choosing, registry

ROOT = Path(__file__).parents[2]


def rows_of_the_page() -> dict[str, list[str]]:
    page = (ROOT / "docs" / "accuracy.md").read_text(encoding="utf-8")
    lines = page.split("## Six detectors")[1].strip().split("\n\n")[0].splitlines()
    cells = [[cell.strip() for cell in line.strip("| ").split("|")] for line in lines if line.startswith("|")]
    head, *_ = cells
    assert head[4:] == ["tile-disjoint: image AUROC", "pixel AUROC", "AUPRO", "training, min", "images/s"]
    return {row[0]: row for row in cells[2:]}


def test_the_figures_are_those_of_the_page() -> None:
    page = rows_of_the_page()
    for one in choosing.CHOICES:
        row = page[one.detector]
        found = float(row[4].split()[0]), float(row[6].split()[0]), float(row[7]), int(row[8])
        assert found == (one.image_auroc, one.aupro, one.training_min, one.images_per_s), one.detector


def test_every_detector_has_a_line_and_a_new_one_says_what_its_file_says(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [line.split()[0] for line in choosing.table().splitlines()[1:]] == [
        "csflow", "differnet", "cflow", "padim", "fastflow", "patchsvdd", "ensemble"
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
