"""FastFlow's head against arrays of the unofficial code. Shapes and hyper-parameters come from the file."""

import re

import numpy as np
import pytest
import torch
from golden_arrays import DTYPES, close, group, load, sampled

from models.flows.level_flows import LevelFlows, likelihood_map
from models.flows.likelihood import elements, nll_loss

VARIANTS = ("A", "B")
# Not in the file: the original's optimiser (tests/golden/README.md section 4).
LEARNING_RATE, WEIGHT_DECAY = 1e-3, 1e-5
FINEST_STRIDE = 4  # pixels a cell of level 0


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    return load("fastflow")


def level_count(golden) -> int:
    return sum(re.fullmatch(r"in/feat\d+", key) is not None for key in golden)


def step_count(golden, variant: str) -> int:
    return sum(re.fullmatch(rf"{variant}/perm_idx/l0/step\d+", key) is not None for key in golden)


def inputs(golden, dtype: torch.dtype, images=slice(None)) -> list[torch.Tensor]:
    return [torch.from_numpy(golden[f"in/feat{i}"][images]).to(dtype) for i in range(level_count(golden))]


def our_name(original: str) -> str:
    name = re.sub(r"nf_flows\.(\d+)\.module_list\.(\d+)\.", r"flows.\1.blocks.\2.", original)
    return name.replace("subnet.0", "subnet.enter").replace("subnet.2", "subnet.leave")


def make_flows(golden, variant: str, dtype: torch.dtype) -> LevelFlows:
    channels = [x.shape[1] for x in inputs(golden, dtype)]
    parameters = group(golden, f"{variant}/param/")
    subnet = "nf_flows.0.module_list.{}.subnet.0.weight"
    hidden, given = parameters[subnet.format(0)].shape[:2]
    flows = LevelFlows(
        channels,
        kernels=[parameters[subnet.format(step)].shape[-1] for step in range(step_count(golden, variant))],
        hidden_ratio=hidden / given,
        generator=torch.Generator(),
        norm_grids=[x.shape[2:] for x in inputs(golden, dtype)],
    )
    state = {}
    for original, value in parameters.items():
        if "w_perm" not in original:  # the permutation as a matrix; perm_idx is the same as an order
            name = our_name(original)
            state[name] = torch.from_numpy(value).flatten() if "global_" in name else torch.from_numpy(value)
    for level in range(len(channels)):
        for step in range(step_count(golden, variant)):
            state[f"flows.{level}.blocks.{step}.perm_idx"] = torch.from_numpy(golden[f"{variant}/perm_idx/l{level}/step{step}"])
    flows.load_state_dict(state)
    return flows.to(dtype)


def reference_loss(latents, log_det_jac) -> torch.Tensor:
    """The original's sum over the levels, nats per image; ours is it divided by the latent elements."""
    return nll_loss(latents, log_det_jac) * elements(latents)


def reference_map(golden, latents) -> torch.Tensor:
    """The original's map, [-1, 0], at the input's size."""
    rows, columns = (FINEST_STRIDE * side for side in golden["in/feat0"].shape[2:])
    return likelihood_map(latents, (rows, columns)) - 1


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("precision", DTYPES)
def test_forward(golden, variant, precision):
    flows = make_flows(golden, variant, DTYPES[precision])
    expected = group(golden, f"{variant}/{precision}/")
    maps = inputs(golden, DTYPES[precision])
    latents, log_det_jac = flows(maps)
    for i, (x, z) in enumerate(zip(flows.normed(maps), latents, strict=True)):
        close(sampled(x), expected[f"normed/l{i}"], "z", f"normed, level {i}")
        close(sampled(z), expected[f"z/l{i}"], "z", f"z of level {i}")
        close(log_det_jac[:, i], expected[f"jac/l{i}"], "log_det", f"log-det of level {i}")
    close(reference_loss(latents, log_det_jac), expected["loss"], "score", "loss")
    cells = reference_map(golden, latents)
    close(sampled(cells), expected["anomaly_map"], "map", "map")
    close(cells.amax((1, 2)), expected["score_max"], "score", "maximum of the map")
    for i, alone in enumerate(flows.latents(maps)):
        close(sampled(alone), expected[f"z/l{i}"], "z", f"z of level {i} without the log-determinant")


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradients(golden, variant):
    flows = make_flows(golden, variant, torch.float32)
    reference_loss(*flows(inputs(golden, torch.float32))).backward()
    gradients = {name: parameter.grad for name, parameter in flows.named_parameters()}
    expected = group(golden, f"{variant}/f32/grad/")
    assert {our_name(original) for original in expected} == set(gradients)
    for original, value in expected.items():
        close(sampled(gradients[our_name(original)]), value, "gradient", original)


@pytest.mark.parametrize("variant", VARIANTS)
def test_permutations_are_the_originals_matrices(golden, variant):
    for level in range(level_count(golden)):
        for step in range(step_count(golden, variant)):
            order = golden[f"{variant}/perm_idx/l{level}/step{step}"]
            prefix = f"{variant}/param/nf_flows.{level}.module_list.{step}"
            identity = np.eye(len(order))
            assert np.array_equal(golden[f"{prefix}.w_perm"][:, :, 0, 0], identity[order])
            assert np.array_equal(golden[f"{prefix}.w_perm_inv"][:, :, 0, 0], identity[np.argsort(order)])


def test_every_step(golden):
    flows = make_flows(golden, "A", torch.float32)
    level = int(re.search(r"trace/l(\d+)/", next(key for key in golden if "/trace/" in key)).group(1))
    x = flows.normed(inputs(golden, torch.float32, slice(0, 1)))[level]
    for step, block in enumerate(flows.flows[level].blocks):
        x, log_det_jac = block(x)
        close(x, golden[f"A/f32/trace/l{level}/step{step}/x"], "z", f"step {step}")
        close(log_det_jac, golden[f"A/f32/trace/l{level}/step{step}/logjac"], "log_det", f"log-det of step {step}")


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("precision", "tolerance"), [("f32", 2e-5), ("f64", 1e-10)])
def test_inverse_recovers_the_normed_features(golden, variant, precision, tolerance):
    flows = make_flows(golden, variant, DTYPES[precision])
    normed = flows.normed(inputs(golden, DTYPES[precision]))
    with torch.no_grad():
        for x, flow in zip(normed, flows.flows, strict=True):
            assert (flow.inverse(flow.latents(x)) - x).abs().max() <= tolerance


def test_training_trace(golden):
    flows = make_flows(golden, "A", torch.float32)
    optimizer = torch.optim.Adam(flows.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    losses = []
    batches = golden["A/train/batch_idx"]
    for step in range(len(golden["A/train/loss_steps"])):
        optimizer.zero_grad()
        loss = reference_loss(*flows(inputs(golden, torch.float32, batches[step % len(batches)])))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    close(losses, golden["A/train/loss_steps"], "trace", "loss of every step")
    with torch.no_grad():
        cells = reference_map(golden, flows.latents(inputs(golden, torch.float32)))
    expected = golden["A/train/final_anomaly_map"]
    np.testing.assert_allclose(sampled(cells), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    parameters = dict(flows.named_parameters())
    for original, value in group(golden, "A/train/final_param/").items():
        ours = sampled(parameters[our_name(original)].detach())
        np.testing.assert_allclose(ours, value, rtol=1e-4, atol=1e-4 * np.abs(value).max(), err_msg=original)
