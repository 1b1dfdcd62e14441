import pytest
import torch
import torch.nn.functional as F
from cuda_stand_in import stand_in
from torch.utils._python_dispatch import TorchDispatchMode

from models.precision import conv2d, layer_dtype, linear, products_in, rowwise


def test_fp16_adds_up_in_float32():
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


@pytest.mark.parametrize(("kernel", "dilation"), [(3, 1), (2, 2)])
def test_a_wider_convolution_rounds_before_its_bias_and_after(kernel, dilation):
    x, weight, bias = torch.randn(2, 8, 9, 7).half(), torch.randn(6, 8, kernel, kernel).half(), 100 * torch.randn(6).half()
    rounded = F.conv2d(x.float(), weight.float(), dilation=dilation).half()
    assert torch.equal(conv2d(x, weight, bias, dilation=dilation), rounded + bias[:, None, None])


def test_a_convolution_of_one_pixel_rounds_once():
    x, weight, bias = torch.randn(2, 8, 9, 7).half(), torch.randn(6, 8, 1, 1).half(), 100 * torch.randn(6).half()
    exact = F.conv2d(x.double(), weight.double(), bias.double())
    assert ((conv2d(x, weight, bias, stride=(1, 1), padding=(0, 0)) - exact).abs() <= exact.abs() * 2**-11 + 1e-5).all()


@pytest.mark.parametrize("shape", [(2, 8, 9, 7), (3, 8, 1, 1)])
def test_rows_give_what_the_convolution_gives(shape):
    x = torch.randn(shape).half().to(memory_format=torch.channels_last)
    weight, bias = torch.randn(6, 8, 1, 1).half(), torch.randn(6).half()
    found = rowwise(x, weight, bias)
    torch.testing.assert_close(found, conv2d(x, weight, bias), rtol=1e-3, atol=1e-3)
    assert found.is_contiguous(memory_format=torch.channels_last)


class Names(TorchDispatchMode):
    """The names of the operations that are called while it is entered."""

    def __init__(self):
        super().__init__()
        self.called = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.called.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


@pytest.mark.filterwarnings("ignore:CUDA is not available")
@pytest.mark.parametrize("of", [(5, 8), (2, 5, 8), (2, 3, 5, 8)])
def test_a_gpus_linear_layer_adds_its_bias_within_the_product(of):
    with stand_in(), torch.no_grad():
        x, weight, bias = (torch.zeros(s, dtype=torch.float16, device="cuda") for s in (of, (6, 8), (6,)))
        with Names() as names:
            assert linear(x, weight, bias).shape == (*of[:-1], 6)
    assert names.called.count("addmm") == 1 and not {"add_", "add", "clone"} & set(names.called)


@pytest.mark.filterwarnings("ignore:CUDA is not available")
@pytest.mark.parametrize(
    ("kernel", "geometry", "product", "passes"),
    [(1, {}, "addmm", 0), (1, {"stride": 2}, "convolution", 1), (3, {"padding": (1, 1)}, "convolution", 1)],
)
def test_a_gpu_adds_the_bias_of_one_pixel_within_the_product_and_copies_nothing(kernel, geometry, product, passes):
    with stand_in(), torch.no_grad():
        x = torch.zeros(2, 8, 9, 7, dtype=torch.float16, device="cuda").to(memory_format=torch.channels_last)
        weight, bias = (torch.zeros(s, dtype=torch.float16, device="cuda") for s in ((6, 8, kernel, kernel), (6,)))
        with Names() as names:
            found = conv2d(x, weight, bias, **geometry)
        assert found.is_contiguous(memory_format=torch.channels_last)
    assert names.called.count(product) == 1 and names.called.count("add_") == passes
    assert not {"clone", "copy_", "_to_copy", "cat"} & set(names.called)
