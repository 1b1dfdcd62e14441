"""Whatever the environment or other code asks for, a trained and a loaded model compute with the same settings."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from models import arithmetic

ROOT = Path(__file__).parents[2]
LOOSE = {  # of torch's own settings, all that can be loosened from outside
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1",
    "CUBLAS_WORKSPACE_CONFIG": ":0:0",
}
FLAGS = """
import os, torch
from torch import backends as b
def flags():
    parts = [b, b.cudnn, b.cudnn.conv, b.cudnn.rnn, b.cuda.matmul, b.mkldnn, b.mkldnn.conv, b.mkldnn.matmul, b.mkldnn.rnn]
    matmul = b.cuda.matmul
    return [
        b.cudnn.deterministic, b.cudnn.benchmark, b.cudnn.allow_tf32, matmul.allow_tf32, torch.get_float32_matmul_precision(),
        matmul.allow_fp16_reduced_precision_reduction, matmul.allow_bf16_reduced_precision_reduction,
        matmul.allow_fp16_accumulation, b.cuda.fp16_bf16_reduction_math_sdp_allowed(), *[p.fp32_precision for p in parts],
        os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
    ]
def loosen():
    for part in (b, b.cudnn, b.cudnn.conv, b.cuda.matmul):
        part.fp32_precision = "tf32"
    b.mkldnn.matmul.fp32_precision = b.mkldnn.conv.fp32_precision = "bf16"
    b.cudnn.deterministic, b.cudnn.benchmark, b.cuda.matmul.allow_fp16_accumulation = False, True, True
"""
# Trains and loads as commands and notebooks do, and builds and fits as a script does; prints what holds after each.
TRAIN_AND_LOAD = f"""{FLAGS}
import numpy, flowscore
from models.registry import build
good = list(numpy.random.default_rng(0).integers(90, 120, (8, 32, 32, 3), "uint8"))
few = dict(weights="none", backbone="test_resnet", image_size=32, selection_share=0, calibration_share=0, device="cpu")
loosen()
model = flowscore.fit("padim", good, model_out="model", precision="float32", **few)
print(flags())
loosen()
model = flowscore.load("model", device="cpu")
model.score(good)
print(flags())
loosen()
build(model.artifact.config)
print(flags())
from jobs.benchmark import ceilings
loosen()
ceilings.SIDE["cpu"], ceilings.COPIED_BYTES["cpu"] = 8, 4096
ceilings.measure("cpu", 0)
print(flags())
"""


def test_all_that_computes_sets_all_flags(tmp_path):
    environment = os.environ | LOOSE | {"PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        [sys.executable, "-c", TRAIN_AND_LOAD], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240
    )
    assert ended.returncode == 0, ended.stderr
    exact = [True, False, False, False, "highest", *[False] * 4, *["ieee"] * 9, ":4096:8"]
    assert ended.stdout.splitlines() == [str(exact)] * 4


@pytest.mark.parametrize(
    "setting",
    ["NVIDIA_TF32_OVERRIDE=1", "CUBLAS_EMULATE_SINGLE_PRECISION=1", "ONEDNN_DEFAULT_FPMATH_MODE=BF16"],
)
def test_what_cannot_be_overruled_is_refused_in_one_line(setting, monkeypatch):
    name, _, value = setting.partition("=")
    monkeypatch.setenv(name, value)
    with pytest.raises(arithmetic.OutsideArithmetic, match=rf"got {setting}\. Unset it") as refused:
        arithmetic.set_arithmetic()
    assert "\n" not in str(refused.value)
    monkeypatch.setenv(name, arithmetic.OUTSIDE[name][1].upper())
    arithmetic.set_arithmetic()


def test_a_workspace_that_comes_too_late_is_told_once(monkeypatch, caplog):
    monkeypatch.delenv(arithmetic.WORKSPACE, raising=False)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    for _ in range(2):
        arithmetic.set_arithmetic()
    assert len(caplog.records) == 1 and "CUDA has started without" in caplog.text
