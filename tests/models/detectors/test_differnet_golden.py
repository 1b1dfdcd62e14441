"""DifferNet against arrays that the authors' code produced. Shapes and hyper-parameters come from the file."""

import re

import numpy as np
import pytest
import scipy.ndimage
import torch
import torch.nn.functional as F
from golden_arrays import DTYPES, close, group, load, sampled
from PIL import Image

from models.backbones.preprocess import Normalise, pyramid
from models.backbones.rotation import rotate, rotation_index
from models.detectors.differnet import smoothed
from models.flows.coupling import legacy_permutations
from models.flows.likelihood import nll_loss
from models.flows.real_nvp import RealNvp

# The file does not hold these; tests/golden/README.md section 2 does.
CLAMP = 3.0
ADAM = {"lr": 2e-4, "betas": (0.8, 0.8), "eps": 1e-4, "weight_decay": 1e-5}
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SMOOTHING_PX = 3.0
LAYERS = ("fc1", "fc2", "fc2b", "fc3")


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    return load("differnet")


def module_numbers(golden) -> list[int]:
    """The original's numbering of its coupling blocks, in order."""
    found = {re.match(r"param/module_list\.(\d+)\.", key) for key in golden}
    return sorted({int(match.group(1)) for match in found if match})


def parameters_of(golden, prefix: str) -> dict[str, np.ndarray]:
    """A group by our parameters' names, without the batch norms, which the original never calls."""
    named = {}
    for original, value in group(golden, prefix).items():
        match = re.fullmatch(r"module_list\.(\d+)\.(s1|s2)\.(\w+)\.(\w+)", original)
        assert match, original
        number, net, layer, kind = match.groups()
        if layer == "bn":
            continue
        subnet = {"s1": "first_to_second", "s2": "second_to_first"}[net]
        named[f"blocks.{module_numbers(golden).index(int(number))}.{subnet}.layers.{LAYERS.index(layer)}.{kind}"] = value
    return named


def make_flow(golden, dtype: torch.dtype) -> RealNvp:
    parameters = parameters_of(golden, "param/")
    hidden = parameters["blocks.0.second_to_first.layers.0.weight"].shape[0]
    flow = RealNvp(golden["in/y"].shape[1], len(module_numbers(golden)), hidden, CLAMP)
    own = {name: parameter.shape for name, parameter in flow.named_parameters()}
    assert own == {name: value.shape for name, value in parameters.items()}
    flow.load_state_dict(flow.state_dict() | {name: torch.from_numpy(value) for name, value in parameters.items()})
    return flow.to(dtype)


def features(golden, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.from_numpy(golden["in/y"]).to(dtype)


def loss_of(latents: torch.Tensor, log_det_jac: torch.Tensor) -> torch.Tensor:
    return nll_loss([latents[:, :, None, None]], log_det_jac[:, None])  # (rows, F, 1, 1), (rows, 1)


def scores(latents: torch.Tensor, images: int) -> torch.Tensor:
    return latents.view(images, -1).square().mean(1)  # (images,)


def pooled(golden, inputs: torch.Tensor) -> torch.Tensor:
    """(..., 3, H, W) normalised to the spatial means of the file's own backbone at three scales, (rows, F)."""
    weights = {name: torch.from_numpy(value) for name, value in group(golden, "backbone/").items()}
    scales = golden["in/y"].shape[1] // len(weights["features.2.bias"])
    means = []
    for level in pyramid(inputs.flatten(0, -4), scales, "nearest"):
        x = F.relu(F.conv2d(level, weights["features.0.weight"], weights["features.0.bias"], stride=2, padding=2))
        x = F.relu(F.conv2d(x, weights["features.2.weight"], weights["features.2.bias"], padding=1))
        means.append(x.mean((2, 3)))
    return torch.cat(means, 1)  # (rows, F)


@pytest.mark.parametrize("precision", DTYPES)
def test_forward_and_every_node(golden, precision):
    flow = make_flow(golden, DTYPES[precision])
    x = features(golden, DTYPES[precision])
    latents, log_det_jac = flow(x)
    close(latents, golden[f"{precision}/z"], "z", "z")
    close(log_det_jac, golden[f"{precision}/jac"], "log_det", "log-det")
    close(loss_of(latents, log_det_jac), golden[f"{precision}/loss"], "score", "loss")
    close(scores(latents, len(golden["images_u8"])), golden[f"{precision}/score"], "score", "score")
    for k, block in enumerate(flow.blocks):
        x = block.permute(x)
        close(sampled(x), golden[f"{precision}/mid/permute_{k}"], "z", f"permutation {k}")
        x, _ = block.couple(x)
        close(sampled(x), golden[f"{precision}/mid/fc_{k}"], "z", f"coupling {k}")
    assert len(group(golden, f"{precision}/mid/")) == 2 * len(flow.blocks)
    assert torch.equal(latents, flow.latents(features(golden, DTYPES[precision])))


@pytest.mark.parametrize("precision", DTYPES)
def test_gradients(golden, precision):
    flow = make_flow(golden, DTYPES[precision])
    x = features(golden, DTYPES[precision]).requires_grad_()
    loss_of(*flow(x)).backward()
    assert x.grad is not None
    close(x.grad, golden[f"{precision}/grad_in"], "gradient", "gradient of the input")
    expected = parameters_of(golden, f"{precision}/grad/")
    gradients = {name: parameter.grad for name, parameter in flow.named_parameters()}
    assert precision == "f64" or expected.keys() == gradients.keys()
    for name, value in expected.items():
        close(sampled(gradients[name]), value, "gradient", name)


@pytest.mark.parametrize("precision", DTYPES)
def test_inverse(golden, precision):
    flow = make_flow(golden, DTYPES[precision])
    z = torch.from_numpy(golden[f"{precision}/z"])
    with torch.no_grad():
        recovered = flow.inverse(z)
        _, log_det_jac = flow(recovered)
    close(recovered, golden[f"{precision}/rev"], "z", "inverse")
    # The original calls this the inverse's log-det; it is the forward one.
    close(log_det_jac, golden[f"{precision}/rev_jac"], "log_det", "log-det of the recovered features")


def test_permutations(golden):
    for name in ("perm", "orig_perm_768"):
        stored = group(golden, f"{name}/permute_")
        assert stored
        for block, order in stored.items():
            assert np.array_equal(legacy_permutations(int(block), len(order), 1)[0], order)
    for k, block in enumerate(make_flow(golden, torch.float32).blocks):
        assert np.array_equal(block.permutation, golden[f"perm/permute_{k}"])
        assert np.array_equal(block.inverse_permutation, golden[f"perm_inv/permute_{k}"])


def test_fixed_rotations(golden):
    height, width = golden["full/in"].shape[-2:]
    resized = [Image.fromarray(x).resize((width, height), Image.Resampling.BILINEAR) for x in golden["images_u8"]]
    pixels = np.stack([np.asarray(x) for x in resized])
    shown = golden["loc/unnormed_input"]
    np.testing.assert_allclose(pixels[golden["full/labels"] > 0] / 255, shown, rtol=0, atol=1e-6)
    images = Normalise(IMAGENET_MEAN, IMAGENET_STD)(torch.from_numpy(pixels))
    fill = -torch.tensor(IMAGENET_MEAN) / torch.tensor(IMAGENET_STD)
    count = golden["full/in"].shape[1]
    assert np.array_equal(golden["full/fixed_degrees"], [360 * i / count for i in range(count)])
    for i, degrees in enumerate(golden["full/fixed_degrees"]):
        turned = rotate(images, rotation_index(height, width, float(degrees)), fill)
        # The same pixel everywhere: a neighbour's value would be off by much more than the rounding of Normalise.
        np.testing.assert_allclose(turned, golden["full/in"][:, i], rtol=0, atol=1e-6)


def test_images_to_scores(golden):
    y = pooled(golden, torch.from_numpy(golden["full/in"]))
    close(y, golden["full/y"], "z", "pooled features")
    latents, log_det_jac = make_flow(golden, torch.float32)(y)
    close(latents, golden["full/z"], "z", "z")
    close(log_det_jac, golden["full/jac"], "log_det", "log-det")
    close(scores(latents, len(golden["images_u8"])), golden["full/score"], "score", "score")


def test_gradient_localisation(golden):
    defects = torch.from_numpy(golden["full/in"][golden["full/labels"] > 0]).requires_grad_()
    latents, log_det_jac = make_flow(golden, torch.float32)(pooled(golden, defects))
    (gradient,) = torch.autograd.grad(loss_of(latents, log_det_jac), defects)
    close(sampled(gradient), golden["loc/raw_grad"], "gradient", "gradient of the copies")
    turned = [
        scipy.ndimage.rotate(gradient[:, i].numpy(), -degrees, axes=(3, 2), reshape=False)
        for i, degrees in enumerate(golden["full/fixed_degrees"])
    ]
    smooth = scipy.ndimage.gaussian_filter(np.stack(turned, 1), (0, 0, 0, SMOOTHING_PX, SMOOTHING_PX))
    squares = np.abs(smooth).mean((1, 2)) ** 2  # (images, H, W)
    close(squares, golden["loc/grad_img_sq"], "gradient", "localisation")
    # The detector turns back through the rotation's own pixels instead of by splines, and pads as torch does.
    own = torch.zeros(squares.shape)
    for i, degrees in enumerate(golden["full/fixed_degrees"]):
        upright = torch.zeros_like(gradient[:, i]).requires_grad_()
        turned_copy = rotate(upright, rotation_index(*upright.shape[-2:], float(degrees)), torch.zeros(3))
        (back,) = torch.autograd.grad(turned_copy, upright, gradient[:, i])
        own += smoothed(back).abs().mean(1) / len(golden["full/fixed_degrees"])
    for one, other in zip(own.square(), squares, strict=True):
        assert np.corrcoef(one.flatten(), other.flatten())[0, 1] > 0.99
    low, high = squares.min((1, 2), keepdims=True), squares.max((1, 2), keepdims=True)
    # The difference of close numbers, so absolute.
    np.testing.assert_allclose((squares - low) / (high - low), golden["loc/normed"], rtol=0, atol=1e-5)


def test_training_trace(golden):
    flow = make_flow(golden, torch.float32)
    optimizer = torch.optim.Adam(flow.parameters(), **ADAM)
    batches = [pooled(golden, torch.from_numpy(golden[f"train/batch{i}"])) for i in range(2)]
    losses = []
    for step in range(len(golden["train/loss_steps"])):
        optimizer.zero_grad()
        loss = loss_of(*flow(batches[step % len(batches)]))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    close(losses, golden["train/loss_steps"], "trace", "loss of every step")
    with torch.no_grad():
        latents, log_det_jac = flow(torch.from_numpy(golden["full/y"]))
    close(loss_of(latents, log_det_jac), golden["train/test_loss"][0], "trace", "test loss")
    close(scores(latents, len(golden["images_u8"])), golden["train/final_score"], "trace", "score after training")
    parameters = dict(flow.named_parameters())
    for name, value in parameters_of(golden, "train/final_param/").items():
        np.testing.assert_allclose(sampled(parameters[name].detach()), value, rtol=1e-4, atol=1e-4 * np.abs(value).max())
