"""What a stored anomaly map takes, and how far it is from what the detector gave: magnetic tiles, maps of 48 x 48 cells.

    PYTHONPATH=. python docs/benchmarks/throughput/maps.py FOLDER

A PaDiM is fitted to 160 good tiles, `flowscore score` scores the test tiles into tables in FOLDER, and the same model gives
their maps again in this process. Prints one line of JSON: bytes a map and bytes a row in the Parquet files of the table
(column chunks, compressed), and the largest and mean error of a cell as a share of its map's range, where quantising may cost
1/510. Needs FLOWSCORE_ASSETS; takes 2 minutes.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch

from models import artifact, registry
from models.config import ArtifactConfig
from models.detector import FitRun
from models.features.store import ImageFeatures
from pipeline.decode.config import DecodeConfig
from pipeline.decode.image import decode_image
from pipeline.scoring.scorer import open_scorer
from pipeline.tables.query import open_tables

FITTED, SIDE, BATCHES = 160, 48, 4
TILES = Path(os.environ["FLOWSCORE_ASSETS"]) / "assets" / "mtd"
CONFIG = ArtifactConfig(name="maps", detector="padim", map_height=SIDE, map_width=SIDE)
DECODE = DecodeConfig(height=CONFIG.input.height, width=CONFIG.input.width)


def pixels(paths: list[Path]) -> np.ndarray:
    """(N, H, W, 3) uint8."""
    return np.stack([decode_image(path.read_bytes(), DECODE).pixels for path in paths])


def fit(model: Path) -> None:
    detector = registry.build(CONFIG)
    good = pixels(sorted((TILES / "train" / "good").iterdir())[:FITTED])
    with tempfile.TemporaryDirectory() as scratch, ImageFeatures(detector, Path(scratch), "good") as images:
        images.append(torch.from_numpy(good))
        detector.fit(images, torch.arange(FITTED), FitRun(detector.Training()))
    artifact.save(model, detector.config, detector, "# PaDiM with maps of 48 x 48 cells\n")


def column_bytes(tables: Path) -> tuple[float, float]:
    """Of the table `maps`: bytes a row of the column `map`, and of all columns."""
    rows, found = 0, {"map": 0, "all": 0}
    for path in (tables / "maps").rglob("*.parquet"):
        metadata = pq.read_metadata(path)
        rows += metadata.num_rows
        for group in map(metadata.row_group, range(metadata.num_row_groups)):
            for column in map(group.column, range(group.num_columns)):
                found["all"] += column.total_compressed_size
                found["map"] += column.total_compressed_size if column.path_in_schema == "map" else 0
    return found["map"] / rows, found["all"] / rows


def errors(tables: Path, model: Path) -> np.ndarray:
    """Distance of stored cells from the detector's as a share of the map's range, (N, SIDE, SIDE)."""
    question = "select uri, map, map_scale, map_offset from maps join scores using (model, date, unit_id, image_id)"
    rows = open_tables(str(tables)).connection.execute(question).fetchall()
    scorer, found = open_scorer(model), []
    step = BATCHES * scorer.batch_size
    for part in (rows[start : start + step] for start in range(0, len(rows), step)):
        given = scorer(pixels([Path(uri.removeprefix("file://")) for uri, *_ in part])).anomaly_map
        for (_, cells, scale, offset), exact in zip(part, given, strict=True):
            stored = offset + scale * np.frombuffer(cells, np.uint8).reshape(SIDE, SIDE).astype(np.float64)
            found.append(np.abs(stored - exact) / np.ptp(exact))
    return np.stack(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder.absolute()
    shutil.rmtree(folder, ignore_errors=True)
    model, tables = folder / "model", folder / "tables"
    fit(model)
    command = [sys.executable, "-m", "jobs.cli", "score", "--model", model, "--input", TILES / "test", "--output", tables]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    share = errors(tables, model)
    map_bytes, row_bytes = column_bytes(tables)
    figures = {
        "maps": len(share),
        "map_bytes": round(map_bytes),
        "row_bytes": round(row_bytes),
        "largest_error": float(share.max()),
        "mean_error": float(share.mean()),
        "bound": 1 / 510,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
