import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from models.backbones import depthwise
from models.backbones.depthwise import ACTIVATIONS, depthwise_conv2d
from models.faults import ModelError
from models.operations import count

X = torch.randn(2, 6, 9, 8, generator=torch.Generator().manual_seed(0)).half().to(memory_format=torch.channels_last)
WEIGHT, BIAS = torch.randn(6, 1, 3, 5), torch.randn(6)
GEOMETRY = ((2, 1), (1, 2), (1, 1))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_one_operation_rounds_once(activation):
    found = depthwise_conv2d(X, WEIGHT, BIAS, *GEOMETRY, activation)
    exact = ACTIVATIONS[activation](F.conv2d(X.double(), WEIGHT.double(), BIAS.double(), *GEOMETRY, groups=6))
    assert found.dtype == torch.float16 and found.is_contiguous(memory_format=torch.channels_last)
    assert ((found.double() - exact).abs() <= exact.abs() * 2**-11 + 1e-5).all()


def test_shapes_are_known_without_values():
    real = depthwise_conv2d(X, WEIGHT, BIAS, *GEOMETRY, "silu")
    fake = depthwise_conv2d(X.to("meta"), WEIGHT.to("meta"), BIAS.to("meta"), *GEOMETRY, "silu")
    assert (fake.shape, fake.dtype, fake.stride()) == (real.shape, real.dtype, real.stride())


def test_it_counts_as_a_float32_convolution_that_reads_and_writes_fp16():
    out = depthwise_conv2d(X, WEIGHT, None, *GEOMETRY, "none")
    found = count(lambda: depthwise_conv2d(X, WEIGHT, None, *GEOMETRY, "none"))
    assert found.flops == {"float32": 2 * out.numel() * 15}
    assert found.bytes == 2 * X.numel() + 4 * WEIGHT.numel() + 2 * out.numel()


@pytest.fixture
def kernel(monkeypatch):
    """What stands where the kernel's file is imported; it is fetched anew."""
    depthwise._cuda_kernel.cache_clear()
    zeros = torch.zeros
    monkeypatch.setattr(torch, "zeros", lambda *shape, device="cpu", **options: zeros(*shape, **options))

    def install(launched):
        module = None if launched is None else SimpleNamespace(launched=launched)
        monkeypatch.setitem(sys.modules, "models.backbones.depthwise_kernel", module)

    yield install
    depthwise._cuda_kernel.cache_clear()


def fails(error):
    def launched(*_args):
        raise error

    return launched


@pytest.mark.parametrize(
    "launched",
    [
        None,
        fails(RuntimeError("Failed to find C compiler.\nPlease specify via CC environment variable.")),
        fails(subprocess.CalledProcessError(1, ["gcc", "main.c"])),
    ],
)
def test_without_triton_or_a_compiler_fp16_is_refused_in_one_line(kernel, launched):
    kernel(launched)
    with pytest.raises(ModelError, match="fp16 needs Triton and a C compiler on this machine; .* install gcc") as refused:
        depthwise._cuda_kernel()
    assert "\n" not in str(refused.value)


def test_a_fault_of_the_device_is_not_taken_for_one_of_the_compiler(kernel):
    kernel(fails(torch.OutOfMemoryError("CUDA out of memory")))
    with pytest.raises(torch.OutOfMemoryError):
        depthwise._cuda_kernel()


def test_the_kernel_is_tried_once_on_one_pixel(kernel):
    shapes = []
    kernel(lambda x, *_args: shapes.append(tuple(x.shape)))
    assert depthwise._cuda_kernel() is depthwise._cuda_kernel() and shapes == [(1, 2, 1, 1)]
