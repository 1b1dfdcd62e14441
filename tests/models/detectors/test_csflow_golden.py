"""CS-Flow against arrays that the authors' code produced. Shapes and hyper-parameters come from the file."""

import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from golden_arrays import DTYPES, close, group, load, sampled

from models.flows.coupling import CLAMP_CONSTANT, legacy_permutations
from models.flows.cross_scale import LEAKY_SLOPE, CrossScaleFlow
from models.flows.likelihood import energy_cells, mean_score, nll_loss


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    return load("csflow")


def scale_count(golden) -> int:
    return sum(re.fullmatch(r"in/s\d+", key) is not None for key in golden)


def inputs(golden, group: str, dtype: torch.dtype, rows: slice = slice(None)) -> list[torch.Tensor]:
    return [torch.from_numpy(golden[f"{group}/s{i}"][rows]).to(dtype) for i in range(scale_count(golden))]


def module_numbers(golden) -> list[int]:
    """The original's numbering of its coupling blocks, in order."""
    found = {re.match(r"param/module_list\.(\d+)\.", key) for key in golden}
    return sorted({int(match.group(1)) for match in found if match})


def our_name(golden, original: str) -> tuple[str, int | None]:
    """Our parameter's name for one of the original, and the element of it (gammas are one vector with us)."""
    _, number, net, rest = original.split(".", 3)
    block = module_numbers(golden).index(int(number))
    subnet = {"s1": "first_to_second", "s2": "second_to_first"}[net]
    prefix = f"blocks.{block}.{subnet}"
    if match := re.fullmatch(r"gamma(\d)", rest):
        return f"{prefix}.gamma", int(match.group(1))
    if match := re.fullmatch(r"conv_scale(\d)_(\d)\.(\w+)", rest):
        return f"{prefix}.{('enter', 'leave')[int(match.group(2))]}.{match.group(1)}.{match.group(3)}", None
    if match := re.fullmatch(r"up_conv\d(\d)\.(\w+)", rest):
        return f"{prefix}.up.{match.group(1)}.{match.group(2)}", None
    if match := re.fullmatch(r"down_conv(\d)\d\.(\w+)", rest):
        return f"{prefix}.down.{match.group(1)}.{match.group(2)}", None
    raise AssertionError(f"unknown parameter {original}")


def ours(golden, tensors: dict[str, torch.Tensor], original: str) -> torch.Tensor:
    name, element = our_name(golden, original)
    return tensors[name] if element is None else tensors[name][element : element + 1]


def make_flow(golden, dtype: torch.dtype) -> CrossScaleFlow:
    parameters = group(golden, "param/")
    entry = f"module_list.{module_numbers(golden)[0]}.s1.conv_scale0_0.weight"
    flow = CrossScaleFlow(
        channels=golden["in/s0"].shape[1],
        scales=scale_count(golden),
        hidden=parameters[entry].shape[0],
        kernels=tuple(parameters[f"module_list.{n}.s1.conv_scale0_0.weight"].shape[-1] for n in module_numbers(golden)),
        clamp=float(golden["cfg/clamp"]),
    ).to(dtype)
    state = flow.state_dict()
    filled = {name: torch.zeros_like(tensor) for name, tensor in state.items() if not name.endswith("permutations")}
    for original, value in parameters.items():
        ours(golden, filled, original).copy_(torch.from_numpy(value))
    counts = {name: tensor.numel() for name, tensor in filled.items()}
    assert sum(counts.values()) == sum(value.size for value in parameters.values())
    flow.load_state_dict(state | filled)
    return flow


def test_constants(golden):
    assert float(golden["cfg/clamp_const"]) == CLAMP_CONSTANT
    assert float(golden["cfg/leaky_slope"]) == LEAKY_SLOPE


@pytest.mark.parametrize("precision", DTYPES)
def test_forward_and_every_node(golden, precision):
    flow = make_flow(golden, DTYPES[precision])
    maps = inputs(golden, "in", DTYPES[precision])
    latents, log_det_jac = flow(maps)
    for i, z in enumerate(latents):
        close(z, golden[f"{precision}/z/s{i}"], "z", f"z of scale {i}")
        close(log_det_jac[:, i], golden[f"{precision}/jac/s{i}"], "log_det", f"log-det of scale {i}")
    close(log_det_jac.sum(1), golden[f"{precision}/jac_sum"], "log_det", "log-det")
    close(mean_score(latents), golden[f"{precision}/score"], "score", "score")
    close(nll_loss(latents, log_det_jac), golden[f"{precision}/loss"], "score", "loss")
    for k, block in enumerate(flow.blocks):
        maps = block.permute(maps)
        for i, x in enumerate(maps):
            close(sampled(x), golden[f"{precision}/mid/permute_{k}/s{i}"], "z", f"permutation {k}, scale {i}")
        maps, _ = block.couple(maps)
        for i, x in enumerate(maps):
            close(sampled(x), golden[f"{precision}/mid/fc1_{k}/s{i}"], "z", f"coupling {k}, scale {i}")
    for z, alone in zip(latents, flow.latents(inputs(golden, "in", DTYPES[precision])), strict=True):
        assert torch.equal(z, alone)


@pytest.mark.parametrize("precision", DTYPES)
def test_gradients(golden, precision):
    flow = make_flow(golden, DTYPES[precision])
    maps = [x.requires_grad_() for x in inputs(golden, "in", DTYPES[precision])]
    nll_loss(*flow(maps)).backward()
    gradients = {name: parameter.grad for name, parameter in flow.named_parameters()}
    expected = group(golden, f"{precision}/grad/")
    assert precision == "f64" or len(expected) == len(group(golden, "param/"))
    for original, value in expected.items():
        close(sampled(ours(golden, gradients, original)), value, "gradient", original)
    for i, x in enumerate(maps):
        close(x.grad, golden[f"{precision}/grad_in/s{i}"], "gradient", f"gradient of input {i}")
    norm = torch.linalg.vector_norm(torch.stack([g.double().norm() for g in gradients.values()]))
    np.testing.assert_allclose(norm, golden[f"{precision}/grad_norm"], rtol=1e-5 if precision == "f32" else 1e-10)


def test_map_and_its_display(golden):
    flow = make_flow(golden, torch.float32)
    latents = flow.latents(inputs(golden, "in", torch.float32))
    cells = energy_cells(latents)
    close(cells, golden["eval/map"], "score", "map")
    close(mean_score(latents), golden["eval/score"], "score", "score of the evaluation script")
    size = golden["eval/map_up"].shape[-2:]
    shown = F.interpolate(cells[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]  # (B, H, W)
    close(shown, golden["eval/map_up"], "score", "map at image size")
    for i in range(len(latents)):
        close(energy_cells(latents[i:]), golden[f"all_scale_map/s{i}"], "score", f"map of scale {i}")


def test_permutations(golden):
    scales = scale_count(golden)
    for name in ("perm", "orig_perm_304"):
        blocks = {int(match.group(1)) for key in golden if (match := re.match(rf"{name}/permute_(\d+)/", key))}
        for block in blocks:
            stored = np.stack([golden[f"{name}/permute_{block}/s{i}"] for i in range(scales)])
            assert np.array_equal(legacy_permutations(block, stored.shape[1], scales), stored)
    flow = make_flow(golden, torch.float32)
    for k, block in enumerate(flow.blocks):
        for i in range(scales):
            assert np.array_equal(block.inverse_permutations[i], golden[f"perm_inv/permute_{k}/s{i}"])


@pytest.mark.parametrize(("precision", "tolerance"), [("f32", 1e-5), ("f64", 1e-10)])
def test_inverse_recovers_the_input(golden, precision, tolerance):
    flow = make_flow(golden, DTYPES[precision])
    maps = inputs(golden, "in", DTYPES[precision])
    with torch.no_grad():
        recovered = flow.inverse(flow.latents(maps))
    for x, back in zip(maps, recovered, strict=True):
        assert (x - back).abs().max() <= tolerance


def test_training_trace(golden):
    flow = make_flow(golden, torch.float32)
    optimizer = torch.optim.Adam(
        flow.parameters(),
        lr=float(golden["cfg/lr"]),
        eps=float(golden["cfg/eps"]),
        weight_decay=float(golden["cfg/weight_decay"]),
    )
    losses, norms = [], []
    batches = len(golden["train_in/s0"]) // 2  # of two images, the same every epoch
    for step in range(len(golden["train/loss_steps"])):
        first = 2 * (step % batches)
        optimizer.zero_grad()
        loss = nll_loss(*flow(inputs(golden, "train_in", torch.float32, slice(first, first + 2))))
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(flow.parameters(), float(golden["cfg/max_grad_norm"])).item())
        optimizer.step()
        losses.append(loss.item())
    close(losses, golden["train/loss_steps"], "trace", "loss of every step")
    close(norms, golden["train/grad_norm_preclip"], "trace", "gradient norm of every step")
    with torch.no_grad():
        latents, log_det_jac = flow(inputs(golden, "in", torch.float32))
    close(nll_loss(latents, log_det_jac), golden["train/test_loss"][0], "trace", "test loss")
    close(mean_score(latents), golden["train/final_score"], "trace", "score after training")
    parameters = dict(flow.named_parameters())
    for original, value in group(golden, "train/final_param/").items():
        np.testing.assert_allclose(
            sampled(ours(golden, parameters, original).detach()), value, rtol=1e-4, atol=1e-4 * np.abs(value).max()
        )
