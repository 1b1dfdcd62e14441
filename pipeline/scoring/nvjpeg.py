"""nvJPEG through torchvision, and what torchvision's words say of a failure: all are a RuntimeError, whoever is at fault."""

import re

import torch
from torch import Tensor
from torchvision.io import ImageReadMode, decode_jpeg

from pipeline.scoring.faults import DeviceFault

STATUS = re.compile(r"Failed to ([A-Za-z ]+): (\d+)\b")
"""torchvision's words before nvJPEG's status, or CUDA's, which is a number too."""

OF_AN_IMAGE = ("get image info", "parse jpeg stream", "decode batch", "decode jpeg stream")
REFUSALS = (3, 4, 9, 10)
"""NVJPEG_STATUS_BAD_JPEG, _JPEG_NOT_SUPPORTED, _IMPLEMENTATION_NOT_SUPPORTED, _INCOMPLETE_BITSTREAM."""

UNKNOWN_CHROMA = "Unknown chroma subsampling"
NO_MEMORY = 5
"""NVJPEG_STATUS_ALLOCATOR_FAILURE."""


def on_cuda(encoded: list[Tensor]) -> list[Tensor]:
    """Each (3, h, w) uint8 on the GPU. Raises RuntimeError when nvJPEG refuses one, and for everything else."""
    found = decode_jpeg(encoded, ImageReadMode.RGB, device="cuda")
    assert isinstance(found, list)
    return found


def refused(error: RuntimeError) -> bool:
    """Whether nvJPEG does not take an image. False: it is another error, in words that name CUDA if the device is at fault.

    Raises:
        OutOfMemoryError: what torchvision says otherwise; so the call can be repeated.
        DeviceFault: nvJPEG failed, and the words do not name the device.
    """
    if isinstance(error, (torch.OutOfMemoryError, torch.AcceleratorError)):
        return False
    said = str(error)
    status = STATUS.search(said)
    if UNKNOWN_CHROMA in said or (status and status[1] in OF_AN_IMAGE and int(status[2]) in REFUSALS):
        return True
    if "CUDA out of memory" in said or (status and "CUDA" not in status[1] and int(status[2]) == NO_MEMORY):
        raise torch.OutOfMemoryError(said) from error
    if status:
        raise DeviceFault(f"cuda failed at decoding pictures: {said.partition(chr(10))[0]}") from error
    return False
