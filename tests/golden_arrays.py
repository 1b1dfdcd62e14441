"""Arrays that the original implementations produced, and how near ours must come; golden/NOTES.md describes the files."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

FOLDER = Path(os.environ.get("FLOWSCORE_ASSETS", "")) / "golden"
DTYPES = {"f32": torch.float32, "f64": torch.float64}


def needed(name: str) -> pytest.MarkDecorator:
    """The mark of tests that read golden/NAME.npz."""
    missing = not ("FLOWSCORE_ASSETS" in os.environ and (FOLDER / f"{name}.npz").is_file())
    return pytest.mark.skipif(missing, reason=f"golden/{name}.npz is not there: set FLOWSCORE_ASSETS")


def load(name: str) -> dict[str, np.ndarray]:
    with np.load(FOLDER / f"{name}.npz") as arrays:
        return {key: arrays[key] for key in arrays.files}


def group(golden: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """The arrays whose key starts so, without the prefix."""
    return {key[len(prefix) :]: value for key, value in golden.items() if key.startswith(prefix)}


def close(actual, expected: np.ndarray, kind: str, name: str) -> None:
    """NOTES' tolerances for float32: z 2e-5, log-det 1e-3 absolute, the others relative; 1e-10 for float64."""
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
