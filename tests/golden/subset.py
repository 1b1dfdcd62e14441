"""Makes the arrays here from the full ones: python subset.py FOLDER_OF_FULL_ARRAYS. README.md says what is left out."""

import re
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from golden_arrays import PADIM_TRAIN_IMAGES, PATCHSVDD_CELL_STEP, sampled  # noqa: E402

# No test reads these, or a test computes them from arrays that are here.
LEFT_OUT = {
    "cflow": r"in/labels",
    "csflow": r"anomalib/|cfg/kernel_sizes|f\d+/rev_orig|labels|node_names",
    "differnet": r"node_names",
    "patchsvdd": r"emb32/train_bank_src_note|mean_image|map/maps_(sum|mult)",
}
# Of these every 13th element stands for all: a wrong formula changes them everywhere.
SAMPLED = {
    "cflow": r"f\d+/(grad|map)/",
    "csflow": r"f\d+/(grad|mid)/|train/final_param/",
    "differnet": r"f\d+/(grad|mid)/|train/final_param/|loc/raw_grad",
    "fastflow": r"[AB]/f\d+/(grad/|normed/|z/|anomaly_map)|A/train/final_",
    "padim": r"anomalib/inv_cov",
    "patchsvdd": r"loss/grad/",
}


def kept(name: str, key: str, value: np.ndarray) -> np.ndarray:
    if re.match(SAMPLED.get(name, "(?!)"), key):
        return sampled(value)
    if name == "padim" and key.startswith("in/train_layer"):
        return value[:PADIM_TRAIN_IMAGES]
    if (name, key) == ("patchsvdd", "emb32/test_img0"):
        return value[::PATCHSVDD_CELL_STEP, ::PATCHSVDD_CELL_STEP]
    return value


def main(folder: Path) -> None:
    for path in sorted(folder.glob("*.npz")):
        name = path.stem
        with np.load(path) as full:
            keys = [key for key in full.files if not re.match(LEFT_OUT.get(name, "(?!)"), key)]
            np.savez_compressed(HERE / path.name, **{key: kept(name, key, full[key]) for key in keys})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
