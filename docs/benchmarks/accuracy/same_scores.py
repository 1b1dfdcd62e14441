"""Train all six detectors on some magnetic tiles, score 64, and print a hash of all scores and maps a detector.

    python docs/benchmarks/accuracy/same_scores.py

Two checkouts that print the same hashes on one machine train and score the same, bit for bit. Needs FLOWSCORE_ASSETS.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

DETECTORS = ("csflow", "differnet", "cflow", "fastflow", "padim", "patchsvdd")
TRAINED, SCORED = 48, 64
ASSETS = Path(os.environ["FLOWSCORE_ASSETS"]) / "assets"
WEIGHTS = ASSETS / "weights" / "mobilenetv1_100_imagenet.safetensors"
PER_DETECTOR = {"patchsvdd": {"weights": "none"}}


def run(*arguments: object) -> None:
    done = subprocess.run([sys.executable, "-m", "jobs.cli", *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{arguments}: exit {done.returncode}\n{done.stdout}{done.stderr}")


def main() -> None:
    folder = Path(tempfile.gettempdir()) / "flowscore-same-scores"  # one name: image ids are made of it
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        good, scored = folder / "good", folder / "scored"
        tiles = sorted((ASSETS / "mtd" / "train" / "good").iterdir())
        defects = sorted((ASSETS / "mtd" / "test").glob("*/*"))
        for target, files in ((good, tiles[:TRAINED]), (scored, defects[:: len(defects) // SCORED][:SCORED])):
            target.mkdir()
            for number, file in enumerate(files):
                shutil.copy(file, target / f"{number:03}-{file.name}")
        for detector in DETECTORS:
            config = folder / "config.yaml"
            config.write_text(f"training: {{{'' if detector == 'padim' else 'epochs: 1'}}}\n")
            model, output = folder / f"model-{detector}", folder / f"output-{detector}"
            weights = PER_DETECTOR.get(detector, {}).get("weights", WEIGHTS)
            run(
                *("train", "--detector", detector, "--input", good, "--model-out", model, "--weights", weights),
                *("--image-size", 128, "--device", "cpu", "--config", config),
            )
            run("score", "--model", model, "--input", scored, "--output", output, "--device", "cpu")
            digest = hashlib.sha256()
            for table, columns in (("scores", ["score"]), ("maps", ["map", "map_scale", "map_offset"])):
                rows = pa.table(DeltaTable(output / table).to_pyarrow_table())
                rows = rows.take(pc.sort_indices(rows, [("image_id", "ascending")]))
                for column in columns:
                    for cell in rows[column].to_pylist():
                        digest.update(cell if isinstance(cell, bytes) else float(cell).hex().encode())
            print(f"{detector:<10} {rows.num_rows} images {digest.hexdigest()[:32]}", flush=True)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
