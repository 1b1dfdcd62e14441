"""Arrays that the original implementations produced, and how near ours must come; golden/README.md describes the files."""

from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

Values = TypeVar("Values", np.ndarray, torch.Tensor)
FOLDER = Path(__file__).parent / "golden"
DTYPES = {"f32": torch.float32, "f64": torch.float64}
SAMPLE_STEP = 13  # prime to the sizes of most axes, so that the sample meets every channel, row and column
SAMPLED_ABOVE = 64  # elements
PADIM_TRAIN_IMAGES = 5  # images whose features are there before the choice of channels; after it all are
PATCHSVDD_CELL_STEP = 4  # of the small patches' embeddings every fourth row and column is there


def load(name: str) -> dict[str, np.ndarray]:
    with np.load(FOLDER / f"{name}.npz") as arrays:
        return {key: arrays[key] for key in arrays.files}


def sampled(values: Values) -> Values:
    """Every 13th element in row-major order, or all of a few, flat: what golden/subset.py keeps of large arrays."""
    flat = values.reshape(-1)
    return flat if len(flat) <= SAMPLED_ABOVE else flat[::SAMPLE_STEP]


def group(golden: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """The arrays whose key starts so, without the prefix."""
    return {key[len(prefix) :]: value for key, value in golden.items() if key.startswith(prefix)}


def close(actual, expected: np.ndarray, kind: str, name: str) -> None:
    """Tolerances for float32: z 2e-5, log-det 1e-3 absolute, the others relative; 1e-10 for float64."""
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
