"""Arrays that the original implementations produced, and our tolerances; golden/README.md describes the files."""

from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

Values = TypeVar("Values", np.ndarray, torch.Tensor)
FOLDER = Path(__file__).parent / "golden"
DTYPES = {"f32": torch.float32, "f64": torch.float64}
SAMPLE_STEP = 13  # prime to the sizes of most axes, so that the sample meets every channel, row and column
SAMPLED_ABOVE = 64  # elements
PADIM_TRAIN_IMAGES = 5  # images with features of all channels; all images have the chosen channels
PATCHSVDD_CELL_STEP = 4  # the file has every fourth row and column of the small patches' embeddings


def load(name: str) -> dict[str, np.ndarray]:
    with np.load(FOLDER / f"{name}.npz") as arrays:
        return {key: arrays[key] for key in arrays.files}


def sampled(values: Values) -> Values:
    """Every 13th element in row-major order, or all if they are few, flat, as golden/subset.py keeps them."""
    flat = values.reshape(-1)
    return flat if len(flat) <= SAMPLED_ABOVE else flat[::SAMPLE_STEP]


def group(golden: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """The arrays whose keys start with the prefix, under the rest of the key."""
    return {key[len(prefix) :]: value for key, value in golden.items() if key.startswith(prefix)}


def close(actual, expected: np.ndarray, kind: str, name: str) -> None:
    """Compare. Tolerances for float32 are 2e-5 for z and 1e-3 for log-det, absolute, others relative; for float64 1e-10."""
    of_largest = 1e-5 * max(np.abs(expected).max(), 1e-30)
    absolute, relative = {
        "z": (2e-5, 0.0),
        "log_det": (1e-3, 0.0),
        "score": (0.0, 1e-5),
        "map": (of_largest, 1e-5),
        "gradient": (of_largest, 1e-5),
        "trace": (0.0, 1e-4),
    }[kind]
    if expected.dtype == np.float64 and kind != "trace":
        absolute, relative = 1e-10, 1e-10
    actual = actual.detach().numpy() if isinstance(actual, torch.Tensor) else np.asarray(actual)
    np.testing.assert_allclose(actual, expected, rtol=relative, atol=absolute, err_msg=name)
