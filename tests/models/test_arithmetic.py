"""Whatever the environment or other code asks for, a trained and a loaded model compute with the same settings."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from models import arithmetic, artifact
from models.config import ArtifactConfig

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
# Builds, fits, loads and measures, each after other code has loosened all it can; prints what holds after each.
ALL_THAT_COMPUTES = f"""{FLAGS}
from pathlib import Path
from jobs.benchmark import ceilings
from models import artifact, registry
from models.config import ArtifactConfig, InputConfig
from models.backbones.config import BackboneConfig
from models.detector import FitRun
from models.features.store import ImageFeatures
from models.fitting.fit import fit
network, size = BackboneConfig(name="test_resnet", weights="none"), InputConfig(height=64, width=64)
config = ArtifactConfig(name="tile", detector="padim", input=size, backbone=network, hyperparameters={{"dims": 4}})
loosen()
detector = registry.build(config)
print(flags())
with ImageFeatures(detector, Path(), "good") as images:
    images.append(torch.randint(0, 256, (4, 64, 64, 3), dtype=torch.uint8))
    loosen()
    fit(detector, images, torch.arange(4), torch.arange(0), [], FitRun(detector.Training()), 3, Path())
print(flags())
saved = artifact.save(Path("model"), config, detector, "")
loosen()
artifact.load(saved)
print(flags())
loosen()
ceilings.SIDE["cpu"], ceilings.COPIED_BYTES["cpu"] = 8, 4096
ceilings.measure("cpu", 0)
print(flags())
"""


def test_all_that_computes_sets_all_flags(tmp_path):
    environment = os.environ | LOOSE | {"PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        [sys.executable, "-c", ALL_THAT_COMPUTES], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240
    )
    assert ended.returncode == 0, ended.stderr
    exact = [True, False, False, False, "highest", *[False] * 4, *["ieee"] * 9, ":4096:8"]
    assert ended.stdout.splitlines() == [str(exact)] * 4


@pytest.mark.parametrize(
    "setting",
    [
        "NVIDIA_TF32_OVERRIDE=1",
        "CUBLAS_EMULATE_SINGLE_PRECISION=1",
        "ONEDNN_DEFAULT_FPMATH_MODE=BF16",
        "DISABLE_ADDMM_CUDA_LT=1",
        "CUBLASLT_WORKSPACE_SIZE=1",
    ],
)
def test_what_cannot_be_overruled_is_refused_in_one_line(setting, monkeypatch):
    name, _, value = setting.partition("=")
    monkeypatch.setenv(name, value)
    with pytest.raises(arithmetic.OutsideArithmetic, match=rf"got {setting}\. Unset it") as refused:
        arithmetic.set_arithmetic()
    assert "\n" not in str(refused.value)
    opened = artifact.Artifact(Path("tile"), ArtifactConfig(name="tile"), model_digest="", calibration_digest=None)
    with pytest.raises(arithmetic.OutsideArithmetic):
        artifact.check(opened)  # as the driver of a run does, before Ray starts
    monkeypatch.setenv(name, arithmetic.OUTSIDE[name][-1].upper())
    arithmetic.set_arithmetic()


def test_a_workspace_that_comes_too_late_is_told_once(monkeypatch, caplog):
    monkeypatch.delenv(arithmetic.WORKSPACE, raising=False)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    for _ in range(2):
        arithmetic.set_arithmetic()
    assert len(caplog.records) == 1 and "CUDA has started without" in caplog.text
