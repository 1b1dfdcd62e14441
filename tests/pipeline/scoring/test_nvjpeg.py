"""The words are those of torchvision 0.29 (decode_jpegs_cuda.cpp) before nvJPEG's status, or CUDA's."""

import pytest
import torch

from pipeline.scoring import nvjpeg
from pipeline.scoring.faults import DeviceFault

DECODING = "Error while decoding JPEG images: "


@pytest.mark.parametrize(
    "said",
    [
        "Failed to get image info: 3",
        "Failed to parse jpeg stream: 4",
        "Failed to parse jpeg stream: 10 (originally from some place)",
        "Failed to decode batch: 4",
        "Failed to decode jpeg stream: 9",
        "Unknown chroma subsampling",
    ],
)
def test_an_image_is_refused(said):
    assert nvjpeg.refused(RuntimeError(DECODING + said))


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("Failed to decode batch: 4"),
        torch.AcceleratorError("Failed to decode batch: 4"),
        RuntimeError("CUDA error: misaligned address"),
        RuntimeError(DECODING + "CUDA error: misaligned address"),
        RuntimeError("decode_jpegs_cuda: torchvision not compiled with nvJPEG support"),
        RuntimeError("Expected a non empty 1-dimensional tensor"),
    ],
)
def test_another_error_keeps_its_words(error):
    assert nvjpeg.refused(error) is False


@pytest.mark.parametrize("said", ["CUDA out of memory. Tried to allocate 2.00 GiB.", "Failed to decode jpeg stream: 5"])
def test_lack_of_memory_is_torchs_own_error(said):
    with pytest.raises(torch.OutOfMemoryError):
        nvjpeg.refused(RuntimeError(DECODING + said))


@pytest.mark.parametrize(
    "said",
    [
        "Failed to decode batch: 6",
        "Failed to decode jpeg stream: 8",
        "Failed to initialize batch decoding: 3",
        "Failed to create nvjpeg state: 1",
        "Failed to initialize nvjpeg with default backend: 4",
        "Failed to synchronize CUDA stream: 700",
        "Failed to synchronize CUDA stream: 4",
    ],
)
def test_nvjpeg_fails_and_not_an_image(said):
    with pytest.raises(DeviceFault, match="^cuda failed at decoding pictures: .*Failed"):
        nvjpeg.refused(RuntimeError(DECODING + said))


def test_torchvision_names_what_it_lacks_here():
    """The call itself: without a GPU it fails, and refuses no image."""
    if torch.cuda.is_available():
        pytest.skip("there is a GPU: docs/benchmarks/gpu tries it")
    with pytest.raises((RuntimeError, NotImplementedError)) as caught:
        nvjpeg.on_cuda([torch.frombuffer(bytearray(b"\xff\xd8\xff"), dtype=torch.uint8)])
    assert not nvjpeg.refused(caught.value)
