"""The Triton kernel in Triton's interpreter, which runs on a CPU; the setting must be there before the import."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
CHECK = """
import torch
from models.backbones.depthwise import in_float32
from models.backbones.depthwise_kernel import launched

torch.manual_seed(0)
cases = [
    ((2, 70, 9, 7), (3, 3), (1, 1), (1, 1), (1, 1), "silu", True),
    ((1, 5, 8, 11), (5, 5), (2, 2), (2, 2), (1, 1), "relu", True),
    ((1, 3, 9, 9), (3, 5), (2, 1), (0, 2), (1, 2), "relu6", False),
    ((1, 65, 6, 6), (2, 2), (1, 1), (0, 0), (2, 2), "none", True),
]
for shape, kernel, stride, padding, dilation, activation, has_bias in cases:
    x = (4 * torch.randn(shape)).half().contiguous(memory_format=torch.channels_last)
    weight, bias = torch.randn(shape[1], 1, *kernel), torch.randn(shape[1]) if has_bias else None
    given = (x, weight, bias, stride, padding, dilation, activation)
    ours, theirs = launched(*given), in_float32(*given)
    assert ours.shape == theirs.shape and ours.dtype == torch.float16, (ours.shape, theirs.shape)
    assert ours.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(ours, theirs, rtol=2e-3, atol=2e-3)
    assert (ours != theirs).float().mean() < 0.02  # both round the same float32 sum, up to its order
x = torch.full((1, 2, 3, 3), torch.nan).half().contiguous(memory_format=torch.channels_last)
for activation in ("none", "relu", "relu6", "silu"):
    assert launched(x, torch.ones(2, 1, 3, 3), None, (1, 1), (1, 1), (1, 1), activation).isnan().all(), activation
print("same")
"""


def test_it_computes_what_the_casts_compute():
    pytest.importorskip("triton")
    environment = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", CHECK], env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0 and done.stdout.strip() == "same", done.stderr[-3000:]
