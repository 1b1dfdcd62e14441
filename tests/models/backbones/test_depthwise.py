import sys

import pytest
import torch
import torch.nn.functional as F

from models.backbones import depthwise
from models.backbones.depthwise import ACTIVATIONS, depthwise_conv2d, in_float32
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


def test_without_triton_a_gpu_computes_by_casts_and_says_so(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "models.backbones.depthwise_kernel", None)  # its import fails
    depthwise._cuda_kernel.cache_clear()
    assert depthwise._cuda_kernel() is in_float32 and depthwise._cuda_kernel() is in_float32
    depthwise._cuda_kernel.cache_clear()
    (line,) = caplog.messages
    assert "Triton cannot be imported" in line and "\n" not in line
