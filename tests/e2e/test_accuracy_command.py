"""The command of docs/accuracy.md makes two runs and their tables from a few magnetic tiles, and does nothing twice."""

import csv
import json
import shutil
import sys
from pathlib import Path

import docs_script
import pytest

pytestmark = pytest.mark.slow

GOOD_OF_A_FOLD = 6
DEFECTS_OF_A_KIND = 2


@pytest.fixture
def some_tiles(assets, tmp_path) -> Path:
    """A folder for FLOWSCORE_ASSETS with the weights and some of the tiles."""
    tiles = assets / "mtd"
    some = tmp_path / "assets" / "mtd"
    some.mkdir(parents=True)
    (tmp_path / "assets" / "weights").symlink_to(assets.resolve() / "weights")
    with open(tiles / "tiles.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    kept, counts, tiles_seen = [], {}, set()
    for row in rows:
        path = Path(row["path"])
        good = path.parts[1] == "good"
        if good and row["tile"] in tiles_seen:  # images of few tiles rank nothing, so they have no figures
            continue
        tiles_seen.add(row["tile"])
        of = (path.parts[0], row["fold"]) if good else path.parts[1]
        counts[of] = counts.get(of, 0) + 1
        if counts[of] > (GOOD_OF_A_FOLD if good else DEFECTS_OF_A_KIND):
            continue
        kept.append(row)
        masks = [] if good else [x.relative_to(tiles) for x in (tiles / "ground_truth" / path.parts[1]).glob(f"{path.stem}*")]
        for name in (path, *masks):
            (some / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(tiles / name, some / name)
    with open(some / "tiles.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(kept)
    return tmp_path


@pytest.fixture
def protocol(some_tiles, tmp_path, monkeypatch):
    module = docs_script.load("benchmarks/accuracy/protocol.py")
    monkeypatch.setenv("FLOWSCORE_ASSETS", str(some_tiles))
    monkeypatch.setattr(module, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(module, "TIMED_IMAGES", 16)
    return module


def given(protocol, monkeypatch, *arguments) -> None:
    monkeypatch.setattr(sys, "argv", ["protocol.py", *map(str, arguments)])
    protocol.main()


def test_two_runs_and_their_tables(protocol, tmp_path, monkeypatch, capsys):
    asked = (tmp_path / "work", "--split", "fold-0", "--seed", "1", "--detector", "padim", "differnet", "--remember")
    given(protocol, monkeypatch, *asked)
    rows = {line.split("|")[1].strip() for line in capsys.readouterr().out.splitlines() if "|" in line}
    tested = {str(path.relative_to(tmp_path / "work/fold-0")) for path in (tmp_path / "work/fold-0/test").glob("*/*")}
    for detector in ("padim", "differnet"):
        report = json.loads((tmp_path / "runs" / detector / "fold-0-seed-1.json").read_text())
        assert {path for path, _, _ in report["scores"]} == tested
        assert (report["trained_s"] is None) == (detector == "differnet")
        assert detector in rows
    assert len(list((tmp_path / "work" / "features").glob("*.pt"))) > len(tested)

    def refuse(*arguments, **_):
        raise AssertionError(f"{arguments} although the run is there")

    monkeypatch.setattr(protocol, "_command", refuse)
    given(protocol, monkeypatch, *asked)
