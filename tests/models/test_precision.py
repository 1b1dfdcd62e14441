import pytest
import torch
import torch.nn.functional as F

from models.precision import conv2d, layer_dtype, linear, products_in


def test_fp16_adds_up_in_float32_and_rounds_once():
    x, weight = torch.full((1, 4096, 2, 2), 1.0).half(), torch.full((1, 4096, 1, 1), 0.25).half()
    weight[0, 0] = 4096.0
    # Sums in fp16 would stick at 4096, whose neighbours are four apart.
    assert conv2d(x, weight).unique().tolist() == [float(torch.tensor(4096 + 4095 / 4).half())]
    assert linear(x[..., 0, 0], weight[:, :, 0, 0]).item() == float(torch.tensor(4096 + 4095 / 4).half())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_other_types_are_left_to_torch(dtype):
    x, weight, bias = torch.randn(2, 3, 5, 5).to(dtype), torch.randn(4, 3, 3, 3).to(dtype), torch.randn(4).to(dtype)
    assert torch.equal(conv2d(x, weight, bias, padding=1), F.conv2d(x, weight, bias, padding=1))
    assert torch.equal(linear(x, weight[:, 0, 0, :1].expand(4, 5), bias), F.linear(x, weight[:, 0, 0, :1].expand(4, 5), bias))


def test_gradients_are_computed_in_the_type_of_the_input():
    assert products_in(layer_dtype("fp16"), torch.float32) is torch.float32
    assert products_in(layer_dtype("bf16"), torch.float32) is torch.bfloat16
    with torch.inference_mode():
        assert products_in(layer_dtype("fp16"), torch.float32) is torch.float16
        assert products_in(layer_dtype("float32"), torch.float32) is torch.float32
