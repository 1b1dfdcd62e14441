import pytest
import torch
import torch.nn.functional as F
from tiny_model import tiny_config

from models import operations, registry

A, B = torch.randn(64, 32), torch.randn(32, 16)
IMAGES, KERNELS, DEPTHWISE = torch.randn(2, 8, 10, 12), torch.randn(5, 8, 3, 3), torch.randn(8, 1, 3, 3)


@pytest.mark.parametrize(
    ("computation", "flops", "floats"),
    [
        (lambda: A @ B, 2 * 64 * 32 * 16, 64 * 32 + 32 * 16 + 64 * 16),
        (lambda: torch.bmm(A[None], B[None]), 2 * 64 * 32 * 16, 64 * 32 + 32 * 16 + 64 * 16),
        (lambda: F.conv2d(IMAGES, KERNELS), 2 * 2 * 8 * 10 * 5 * 8 * 9, 2 * 8 * 120 + 5 * 72 + 2 * 5 * 80),
        (lambda: F.conv2d(IMAGES, DEPTHWISE, groups=8, padding=1), 2 * 2 * 120 * 8 * 9, 2 * 8 * 120 + 72 + 2 * 8 * 120),
        (lambda: A + 1, 0, 2 * 64 * 32),
        (lambda: A.clone().relu_(), 0, 4 * 64 * 32),
        (lambda: A.T.unsqueeze(0).view(32, 64), 0, 0),
    ],
)
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_operations_and_bytes_are_those_counted_by_hand(computation, flops, floats, mode):
    with mode():
        found = operations.count(computation)
    assert (sum(found.flops.values()), found.bytes) == (flops, 4 * floats)


def test_operations_go_by_the_type_that_they_are_done_in():
    with torch.autocast("cpu", torch.bfloat16):
        found = operations.count(lambda: A @ B)
    assert found.flops == {"bfloat16": 2 * 64 * 32 * 16}


def test_a_detectors_operations_grow_with_its_images():
    config = tiny_config(precision="bf16", batch_size=2)
    detector = registry.build(config)
    detector.fitted = True  # its operations do not depend on the weights
    two, four = (operations.count(lambda n=n: detector.score(torch.zeros(n, 64, 96, 3, dtype=torch.uint8))) for n in (2, 4))
    assert set(two.flops) == {"float32", "bfloat16"}
    assert all(four.flops[kind] == 2 * number for kind, number in two.flops.items())
