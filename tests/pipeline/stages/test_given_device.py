"""To Ray a GPU is a number, so a node may declare some that it does not have. What a scorer there is told, and refuses."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from models.arithmetic import OutsideArithmetic
from pipeline.scoring.faults import WrongDevice
from pipeline.stages import given_device
from pipeline.stages.config import StageConfig
from pipeline.stages.given_device import take_given_device

ROOT = Path(__file__).parents[3]

ON_A_NODE_WITH_GPUS = """
import ray

from pipeline.scoring.faults import WrongDevice
from pipeline.stages.config import StageConfig
from pipeline.stages.given_device import take_given_device


class Scorer:
    def take(self, device):
        try:
            take_given_device(StageConfig(None, 0, None, "", "", device))
        except WrongDevice as error:
            return str(error)


ray.init(address="local", num_cpus=2, num_gpus=2, include_dashboard=False, object_store_memory=200 << 20)
cases = (("cpu", 0), ("cpu", 0.5), ("cuda", 0.5))
actors = [ray.remote(num_cpus=0.25, num_gpus=gpus)(Scorer).remote() for _, gpus in cases]
for (device, gpus), said in zip(cases, [actor.take.remote(device) for actor, (device, _) in zip(actors, cases)]):
    print(f"{device} with {gpus}:", ray.get(said))
"""


@pytest.mark.timeout(180)
def test_scorers_of_a_node_that_declares_gpus(tmp_path):
    command, environment = [sys.executable, "-c", ON_A_NODE_WITH_GPUS], os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=170, env=environment, cwd=tmp_path)
    lines = [line for line in done.stdout.splitlines() if " with " in line]
    assert len(lines) == 3, done.stdout + done.stderr
    free, holds, cannot = lines
    assert free == "cpu with 0: None", "it sees the GPUs, and leaves them alone"
    assert "must hold no GPU; it was told to score on the CPU, and Ray gave it GPU" in holds
    for part in ("told to score on; Ray gave it GPU", "CUDA_VISIBLE_DEVICES is '", "torch says:"):
        assert part in cannot


@pytest.fixture
def taken(monkeypatch):
    """The shares that were taken; torch finds a GPU."""
    found = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(given_device, "take_share", found.append)
    return found


@pytest.mark.parametrize(("device", "shares"), [("cpu", []), ("cuda", [0.25])])
def test_a_share_is_of_the_gpu_only(taken, device, shares):
    take_given_device(StageConfig(None, 0, None, "", "", device, gpu_share=0.25))
    assert taken == shares


def test_a_variable_of_one_node_is_found_before_its_device_is_touched(taken, monkeypatch):
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
    with pytest.raises(OutsideArithmetic, match="NVIDIA_TF32_OVERRIDE=1"):
        take_given_device(StageConfig(None, 0, None, "", "", "cuda", gpu_share=0.25))
    assert taken == []


def test_a_process_that_is_no_actor_can_be_wrong_too(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(WrongDevice, match="Ray gave it no GPU"):
        take_given_device(StageConfig(None, 0, None, "", "", "cuda"))


STARTS_CUDA = """
import logging, sys

import torch

from pipeline.scoring import device
from pipeline.stages.config import StageConfig
from pipeline.stages.given_device import take_given_device

started = [False]
torch.cuda.is_available = lambda: True
torch.cuda.is_initialized = lambda: started[0]
torch.cuda.is_bf16_supported = torch.cuda.set_per_process_memory_fraction = lambda *_, **__: started.__setitem__(0, True)
logging.basicConfig(stream=sys.stdout)
if sys.argv[1] == "share":
    take_given_device(StageConfig(None, 0, None, "", "", "cuda", gpu_share=0.25))
else:
    device.bf16_is_native("cuda")
from models.arithmetic import set_arithmetic  # as whoever loads a model does then
set_arithmetic()
print("started", started[0])
"""


@pytest.mark.parametrize("way", ["share", "bf16"])
def test_what_starts_cuda_sets_the_arithmetic_first(way, tmp_path):
    """Else a line warns of other bits, in vain: cuBLAS has not started, and would have read its setting."""
    environment = {name: value for name, value in os.environ.items() if name != "CUBLAS_WORKSPACE_CONFIG"}
    command = [sys.executable, "-c", STARTS_CUDA, way]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, env=environment | {"PYTHONPATH": str(ROOT)}, cwd=tmp_path
    )
    assert done.stdout == "started True\n", done.stdout + done.stderr
