"""Names this machine for tables of figures, and describes its processor."""

import os
import re
from pathlib import Path

from pipeline.scoring.device import Device

CPUINFO = Path("/proc/cpuinfo")
NOT_NAMES = re.compile(r"\((r|tm)\)|\bcpu\b|\bprocessor\b|@.*", re.IGNORECASE)


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def hardware_name(device: Device, cpuinfo: Path = CPUINFO) -> str:
    """A name for files: the processor's model, or the GPU's on CUDA, and the cores ("amd-epyc-2-cores")."""
    if device == "cuda":
        import torch  # it takes seconds to load, and a CPU needs no name from it

        model = torch.cuda.get_device_name(device)
    else:
        model = _field(cpuinfo, "model name") or os.uname().machine
    words = re.sub(r"[^a-z0-9]+", "-", NOT_NAMES.sub(" ", model).lower()).strip("-")
    return f"{words}-{cores()}-cores"


def described(device: Device, cpuinfo: Path = CPUINFO) -> str:
    """The device in words; for a CPU, with the instructions that bf16 depends on, if the system lists them."""
    if device == "cuda":
        import torch

        return torch.cuda.get_device_name(device)
    flags = (_field(cpuinfo, "flags") or "").split()
    if not flags:
        return "this CPU"
    bf16 = "AVX512-bf16" if "avx512_bf16" in flags else "no AVX512-bf16"
    return f"this CPU ({bf16}, {'AMX' if 'amx_bf16' in flags else 'no AMX'})"


def _field(cpuinfo: Path, name: str) -> str | None:
    """The field's first value; None if the file or the field is missing."""
    if not cpuinfo.is_file():
        return None
    found = re.search(rf"^{name}\s*:\s*(.*)$", cpuinfo.read_text(), re.MULTILINE)
    return found.group(1) if found else None
