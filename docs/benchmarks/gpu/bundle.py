"""Makes the folder that a machine with a GPU needs to run verify.py: our code, weights, 64 tiles, and wheels that it may lack.

    make gpu-bundle BUNDLE=FOLDER          # FLOWSCORE_ASSETS names the reference data

Such a machine brings torch 2.11 or newer, torchvision, timm, scipy, scikit-image, pyarrow and Pillow. What it lacks of WHEELS
is installed there: `pip install --no-index --no-deps --target SITE FOLDER/wheels/*.whl`, and PYTHONPATH=SITE.
"""

import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[3]
CODE = ("models", "pipeline", "schemas", "docs/benchmarks/gpu", "jobs/__init__.py", "jobs/benchmark")
WEIGHTS = "assets/weights/mobilenetv1_100_imagenet.safetensors"
TILES = "assets/mtd"
WHEELS = ("simplejpeg", "pydantic", "pydantic-core", "annotated-types", "typing-inspection", "typing-extensions", "tqdm")
"""What an image with torch may lack, in the versions that are installed here."""

PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
SIDE_PX, GOOD, DEFECTS = 256, 40, 24
LIMIT_BYTES = 60 << 20


def main(folder: Path, python: str | None) -> None:
    """python: version of the other machine's Python, such as 3.12, for its wheels; None brings no wheels."""
    if folder.exists() and any(folder.iterdir()):
        raise SystemExit(f"BUNDLE must be new or empty; got {folder}. Name another folder.")
    assets = Path(os.environ.get("FLOWSCORE_ASSETS") or "")
    if not (assets / WEIGHTS).is_file():
        raise SystemExit(f"FLOWSCORE_ASSETS must name the reference data; {assets / WEIGHTS} is missing. Set it.")
    for part in CODE:
        target = folder / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, target, ignore=shutil.ignore_patterns("__pycache__", "*.jsonl"))
        else:
            shutil.copy(ROOT / part, target)
    weights = folder / "shared" / WEIGHTS
    weights.parent.mkdir(parents=True)
    shutil.copyfile(assets / WEIGHTS, weights)
    np.savez_compressed(folder / "shared" / "tiles.npz", pixels=tiles(assets / TILES))
    if python is not None:
        wheels(folder / "wheels", python)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    if size > LIMIT_BYTES:
        raise SystemExit(f"the bundle must be under {LIMIT_BYTES >> 20} MiB; it has {size / 2**20:.1f}. Leave something out.")
    print(f"{folder}: {size / 2**20:.1f} MiB. There: python {folder.name}/docs/benchmarks/gpu/verify.py")


def tiles(folder: Path) -> np.ndarray:
    """(64, 256, 256, 3) uint8: good tiles first, then one defect of each kind in turn."""
    good = sorted((folder / "train" / "good").iterdir())
    kinds = [sorted(kind.iterdir()) for kind in sorted((folder / "test").iterdir()) if kind.name != "good"]
    defects = [kind[i] for i in range(DEFECTS) for kind in kinds][:DEFECTS]
    chosen = good[:: len(good) // GOOD][:GOOD] + defects
    return np.stack([np.asarray(Image.open(path).convert("RGB").resize((SIDE_PX, SIDE_PX))) for path in chosen])


def wheels(folder: Path, python: str) -> None:
    wanted = [f"--platform={platform}" for platform in PLATFORMS]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += [f"--python-version={python}", "--implementation=cp", *wanted, f"--dest={folder}"]
    command += [f"{name}=={version(name)}" for name in WHEELS]
    subprocess.run(command, check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None)
