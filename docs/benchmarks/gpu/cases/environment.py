"""What the machine is: GPU, driver, libraries, and what decides arithmetic."""

import os
import platform
import subprocess
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from cases.place import Place

PACKAGES = ("torch", "torchvision", "triton", "timm", "numpy", "safetensors", "pydantic", "scikit-image", "simplejpeg")
VARIABLES = ("CUDA_VISIBLE_DEVICES", "CUBLAS_WORKSPACE_CONFIG", "NVIDIA_TF32_OVERRIDE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE")


def run(place: Place, _: int) -> Iterator[dict[str, Any]]:
    found: dict[str, Any] = {
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "versions": {name: _version(name) for name in PACKAGES},
        "variables": {name: os.environ[name] for name in VARIABLES if name in os.environ},
    }
    if place.on_gpu:
        properties = torch.cuda.get_device_properties(0)
        asked = "name,driver_version,memory.total,mig.mode.current,ecc.mode.current,clocks.max.sm,pcie.link.gen.current"
        smi = subprocess.run(["nvidia-smi", f"--query-gpu={asked}", "--format=csv,noheader"], capture_output=True, text=True)
        found |= {
            "gpu": properties.name,
            "multiprocessors": properties.multi_processor_count,
            "memory_gib": round(properties.total_memory / 2**30, 1),
            "capability": f"{properties.major}.{properties.minor}",
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
            "nvidia_smi": smi.stdout.strip() or smi.stderr.strip(),
        }
    else:
        found["cpu"] = torch.backends.cpu.get_cpu_capability()
    yield found


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
