"""Calls something that uses the device, and says in one error what goes wrong with the device."""

import gc
import re
from collections.abc import Callable
from typing import TypeVar

import torch

from pipeline.scoring.faults import DeviceFault, NoMemory
from pipeline.scoring.watchdog import LONG_S, Watchdog, over

Result = TypeVar("Result")

OF_DEVICE = re.compile(
    r"CUDA error|CUDA unknown error|CUDA driver|No CUDA GPUs|cudaGetDeviceCount|cuDNN error|cuDNN algorithm"
    r"|CUDNN_STATUS|CUBLAS_STATUS|CUSOLVER_STATUS|CUFFT|NCCL|NVRTC|NVML_|Triton Error"
)
"""What libraries of a device write into a RuntimeError; everything else keeps its own error. The case counts: our own mistakes
name devices too, as in `found at least two devices, cuda:0 and cpu!`."""

GIB = 1 << 30


def on_device(call: Callable[[], Result], device: str, work: str, watch: Watchdog | None = None) -> Result:
    """What the call returns. For lack of memory it is called twice, the second time after the unused cache was given
    back: other processes may share the device.

    Args:
        device: cpu or cuda.
        work: what the call does, in words, such as `a batch of 16 images`. It is never made smaller: the score of an image
            depends on the size of its batch, in the last bits.
        watch: told of the time between the two calls; the call itself tells its own.
    Raises:
        DeviceFault: the device failed.  NoMemory: it had too little memory twice.
    """
    try:
        return _translated(call, device, work)
    except torch.OutOfMemoryError:
        pass  # the second call comes after this block: the error holds the tensors of the first
    with over(watch, f"giving back memory after {work}", LONG_S):
        gc.collect()  # an error in a cycle with a frame of its traceback still holds them
        torch.cuda.empty_cache()
    try:
        return _translated(call, device, work)
    except torch.OutOfMemoryError as error:
        raise NoMemory(
            f"{device} has too little memory: {work} did not fit twice, with {_free(device)}. "
            "Let fewer processes share it (resources.scorer_gpus), or train with a smaller batch_size"
        ) from error


def _translated(call: Callable[[], Result], device: str, work: str) -> Result:
    try:
        return call()
    except torch.OutOfMemoryError:
        raise
    except torch.AcceleratorError as error:
        raise DeviceFault(f"{device} failed at {work}: {_first_line(error)}") from error
    except RuntimeError as error:
        if not OF_DEVICE.search(str(error)):
            raise
        raise DeviceFault(f"{device} failed at {work}: {_first_line(error)}") from error


def _first_line(error: RuntimeError) -> str:
    """Torch adds a page of advice."""
    return str(error).partition("\n")[0].rstrip(". ")


def _free(device: str) -> str:
    if device != "cuda" or not torch.cuda.is_available():
        return "an unknown amount free"
    free, total = torch.cuda.mem_get_info()
    return f"{free / GIB:.1f} of {total / GIB:.1f} GiB free"
