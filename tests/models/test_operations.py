from typing import Any

import pytest
import torch
import torch.nn.functional as F
from cuda_stand_in import stand_in
from tiny_model import tiny_config

from models import operations, registry
from models.backbones.config import BackboneConfig
from models.config import ArtifactConfig, InputConfig

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


class OnDevice(operations.OperationCount):
    """A count of what a GPU would compute; also the float32 convolutions and copies of weights to another type."""

    def __init__(self) -> None:
        super().__init__()
        self.wide: list[str] = []
        self.cast_weights = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None) -> Any:
        name = func.overloadpacket.__name__
        if name == "convolution" and args[0].dtype == torch.float32:
            self.wide.append(str(args[1].shape))
        if name == "_to_copy" and isinstance(args[0], torch.nn.Parameter):
            self.cast_weights += 1
        return super().__torch_dispatch__(func, types, args, kwargs)


def on_device(backbone: str, precision: str, side_px: int, **hyperparameters: Any) -> OnDevice:
    """Of one image of side_px by CS-Flow. A batch of one is the dearest: a head's products are filled up to 16 images."""
    fields: dict[str, Any] = {"name": "counted", "detector": "csflow", "precision": precision, "batch_size": 1}
    size, network = InputConfig(height=side_px, width=side_px), BackboneConfig(name=backbone, weights="none")
    detector = registry.build(ArtifactConfig(**fields, input=size, backbone=network, hyperparameters=hyperparameters))
    detector.fitted = True
    with stand_in():
        detector.to("cuda").freeze()
        images = torch.zeros(1, side_px, side_px, 3, dtype=torch.uint8, device="cuda")
        with OnDevice() as counted:
            detector.score(images)
    return counted


@pytest.mark.filterwarnings("ignore:CUDA is not available")
def test_fp16_halves_the_traffic_and_only_depthwise_convolutions_are_float32():
    exact, half = (on_device("test_efficientnet", precision, 128, head=None) for precision in ("float32", "fp16"))
    assert half.wide == [] and half.cast_weights == 0 and len(exact.wide) > 20
    assert half.flops["float32"] < 0.1 * half.flops["float16"]
    assert sum(half.flops.values()) == sum(exact.flops.values())
    assert half.bytes < 0.77 * exact.bytes  # in this tiny network the flow's float32 state and biases count much


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:CUDA is not available")
def test_an_image_of_768_pixels_takes_at_most_4_gb_of_traffic_with_efficientnet_b5():
    half, headed = on_device("efficientnet_b5", "fp16", 768, head=None), on_device("efficientnet_b5", "fp16", 768)
    assert headed.wide == [] and headed.cast_weights == 0
    assert half.bytes < headed.bytes <= 4.0e9
    assert half.flops["float32"] <= 4.5e9 and half.flops["float16"] >= 59e9
