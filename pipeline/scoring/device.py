"""Which device scores: what a setting may say, what this process has, and the hardware in words.

A setting says auto, cpu or cuda. Whoever starts the scorers decides once, for cpu or cuda, and they are told. A number
(`cuda:1`) is no device: a process has one GPU, and the environment (or Ray) says which. Importing this file does not import
torch, which takes seconds.
"""

import os
from importlib.metadata import PackageNotFoundError, version
from typing import Literal, get_args

from models.arithmetic import set_arithmetic
from models.faults import NoSuchDevice
from pipeline.scoring.faults import WrongDevice

DeviceSetting = Literal["auto", "cpu", "cuda"]
Device = Literal["cpu", "cuda"]

BF16_OF_CPUS = {"avx512_bf16": "bf16", "amx_bf16": "AMX"}
"""Instructions of a CPU on which the arithmetic of bf16 depends beside its vector length."""


def parsed(device: str) -> DeviceSetting:
    """Raises NoSuchDevice for anything but auto, cpu and cuda."""
    for known in get_args(DeviceSetting):
        if device == known:
            return known
    raise NoSuchDevice(f"device must be auto, cpu or cuda; got {device!r}. Choose one of them.")


def resolve_device(device: str) -> Device:
    """The device of a process that nobody decided for: `auto` is cuda where there is one, else cpu.

    Raises NoSuchDevice for what is no device, or one that this machine does not have.
    """
    setting = parsed(device)
    if setting == "auto":
        import torch

        return "cuda" if torch.cuda.is_available() else "cpu"
    if setting == "cuda" and (missing := why_no_gpu()) is not None:
        raise NoSuchDevice(f"device must be auto or cpu on this machine; got 'cuda', and torch says: {missing}.")
    return setting


def why_no_gpu() -> str | None:
    """Why torch cannot compute on a GPU in this process, in its own words; None if it can."""
    import torch

    if torch.cuda.is_available():
        return None
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:  # an AssertionError in builds of torch without CUDA
        return str(error).partition("\n")[0].partition(". ")[0].rstrip(".")
    return "it finds no GPU"


def check_given(decided: Device, gpu_ids: list[str], where: str) -> None:
    """Compares what was decided for this process with what it has.

    Args:
        gpu_ids: the GPUs that Ray gave to the process.
        where: the node, in words.
    Raises:
        WrongDevice: it was told cuda and torch finds no GPU, or it was told cpu and holds one that others could use.
    """
    held = f"Ray gave it GPU {', '.join(gpu_ids)}" if gpu_ids else "Ray gave it no GPU"
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    seen = "CUDA_VISIBLE_DEVICES is not set" if visible is None else f"CUDA_VISIBLE_DEVICES is {visible!r}"
    if decided == "cpu" and gpu_ids:
        raise WrongDevice(
            f"a scorer on {where} must hold no GPU; it was told to score on the CPU, and {held}. "
            "Give --device cuda, or set resources.scorer_gpus to 0"
        )
    if decided == "cuda" and (missing := why_no_gpu()) is not None:
        raise WrongDevice(
            f"a scorer on {where} must find the GPU that it was told to score on; {held}, {seen}, and torch says: {missing}. "
            "Mend that node's driver or take the node out, or score on CPUs with --device cpu"
        )


def take_share(share: float) -> None:
    """Let this process take no more than its share of the GPU's memory, 0 < share <= 1: others have the rest."""
    import torch

    if share < 1:
        torch.cuda.set_per_process_memory_fraction(share)


def bf16_is_native(device: Device) -> bool:
    """Whether the device multiplies bf16 itself. A GPU older than Ampere, such as a T4, only emulates it."""
    import torch

    if device == "cuda":
        set_arithmetic()  # before asking starts CUDA
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(torch.cpu.get_capabilities().get("avx512_bf16"))


def hardware(device: Device) -> str:
    """What the bits of a score depend on beside the model and the mode: the chip and the libraries, in words.

    `NVIDIA H100 80GB HBM3, 132 multiprocessors, torch 2.15.0+cu132, cuDNN 9.26.0, Triton 3.9.0`, or
    `CPU with AVX512, bf16, torch 2.15.0`.
    """
    import torch

    if device == "cuda":
        chip = torch.cuda.get_device_properties(torch.cuda.current_device())
        cudnn = _version(torch.backends.cudnn.version())
        libraries = f"torch {torch.__version__}, cuDNN {cudnn}, Triton {_triton()}"
        return f"{chip.name}, {chip.multi_processor_count} multiprocessors, {libraries}"
    has = torch.cpu.get_capabilities()
    instructions = [torch.backends.cpu.get_cpu_capability(), *(word for name, word in BF16_OF_CPUS.items() if has.get(name))]
    return f"CPU with {', '.join(instructions)}, torch {torch.__version__}"


def _triton() -> str:
    """It compiles the kernels of fp16's depthwise layers."""
    try:
        return version("triton")
    except PackageNotFoundError:
        return "none"


def _version(number: int | None) -> str:
    """9.26.0 for 92600."""
    return "none" if number is None else f"{number // 10_000}.{number // 100 % 100}.{number % 100}"
