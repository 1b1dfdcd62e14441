"""CFLOW's head against arrays that the authors' code produced. Shapes and hyper-parameters come from the file."""

import math
import re
from itertools import count

import numpy as np
import pytest
import torch
from cflow_reference_maps import reference_maps
from golden_arrays import DTYPES, close, load, sampled

from models.flows.position_code import position_code
from models.flows.position_flows import PositionFlows, log_prob_per_dim, sigmoid_loss

# Not in the file: the original's optimiser and schedule (tests/golden/README.md section 3).
LEARNING_RATE, LEAST_SHARE, WARM_EPOCHS, WARM_SHARE, META_EPOCHS = 2e-4, 1e-3, 2, 0.1, 25


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    return load("cflow")


def levels(golden) -> range:
    return range(sum(re.fullmatch(r"in/feat\d+", key) is not None for key in golden))


def grids(golden) -> list[tuple[int, int]]:
    return [golden[f"in/feat{level}"].shape[2:] for level in levels(golden)]


def inputs(golden, dtype: torch.dtype, images=slice(None)) -> list[torch.Tensor]:
    """Rows of every level, (B, cells, C)."""
    maps = [torch.from_numpy(golden[f"in/feat{level}"][images]).to(dtype) for level in levels(golden)]
    return [x.flatten(2).transpose(1, 2) for x in maps]


def our_name(original: str) -> str:
    name = re.sub(r"level(\d+)/module_list\.(\d+)\.", r"flows.\1.blocks.\2.", original)
    return name.replace("subnet.0", "subnet.enter").replace("subnet.2", "subnet.leave").replace("w_perm", "rotation")


def parameters(golden, prefix: str) -> dict[str, np.ndarray]:
    """Under our names and in our shapes."""
    found = {our_name(key[len(prefix) :]): value for key, value in golden.items() if key.startswith(prefix)}
    return {name: value.reshape(-1) if "global_" in name else value for name, value in found.items() if "_inv" not in name}


def make_flows(golden, dtype: torch.dtype) -> PositionFlows:
    steps = sum(re.fullmatch(r"param/level0/module_list\.\d+\.global_scale", key) is not None for key in golden)
    channels = [golden[f"in/feat{level}"].shape[1] for level in levels(golden)]
    flows = PositionFlows(channels, grids(golden), len(golden["pe/level0"]), steps, torch.Generator())
    flows.load_state_dict({name: torch.from_numpy(value) for name, value in parameters(golden, "param/").items()})
    flows.to(dtype)
    if dtype == torch.float64:  # the file's codes were computed in float32: within 2e-7 of ours, which is above 1e-10
        for level, code in enumerate(flows.codes()):
            code.copy_(torch.from_numpy(golden[f"pe/level{level}"]).flatten(1).T)  # (cells, P)
    return flows


def test_position_codes(golden):
    for key in golden:
        if key.startswith("pe/"):
            np.testing.assert_allclose(position_code(*golden[key].shape), golden[key], rtol=0, atol=2e-7, err_msg=key)


@pytest.mark.parametrize("precision", DTYPES)
def test_forward(golden, precision):
    flows = make_flows(golden, DTYPES[precision])
    rows = inputs(golden, DTYPES[precision])
    log_probs = flows(rows)
    for level, (flow, code, x) in enumerate(zip(flows.flows, flows.codes(), rows, strict=True)):
        z, log_det_jac = flow(x.flatten(0, 1), code)
        close(z, golden[f"{precision}/z/level{level}"], "z", f"z of level {level}")
        close(log_det_jac, golden[f"{precision}/logjac/level{level}"], "log_det", f"log-det of level {level}")
        per_dim = log_prob_per_dim(z, log_det_jac)
        assert torch.equal(per_dim, log_probs[level].flatten())
        close(per_dim * z.shape[1], golden[f"{precision}/logp/level{level}"], "log_det", f"log p of level {level}")
        expected = golden[f"{precision}/test_dist/level{level}"]  # float64 in the file, computed in the precision
        np.testing.assert_allclose(per_dim.detach(), expected, rtol=0, atol=1e-10 if precision == "f64" else 2e-5)


def test_every_block(golden):
    flows = make_flows(golden, torch.float32)
    for level, (flow, code, x) in enumerate(zip(flows.flows, flows.codes(), inputs(golden, torch.float32), strict=True)):
        traced = len(golden[f"f32/trace/level{level}/block0/x"])
        x = x.flatten(0, 1)[:traced]
        total = torch.zeros(traced)
        for number, block in enumerate(flow.blocks):
            x, log_det_jac = block(x, code[:traced])
            total = total + log_det_jac
            stored = f"f32/trace/level{level}/block{number}"
            close(x, golden[f"{stored}/x"], "z", stored)
            close(log_det_jac, golden[f"{stored}/logjac"], "log_det", stored)
        np.testing.assert_allclose(total.detach(), golden[f"f32/logjac/level{level}"][:traced], rtol=0, atol=1e-3)


@pytest.mark.parametrize("precision", DTYPES)
def test_published_maps(golden, precision):
    """From our log-likelihoods to the scores; and the maps by themselves, from the stored log-likelihoods."""
    size = golden["in/mask"].shape[2:]
    stored = [
        torch.from_numpy(golden[f"{precision}/test_dist/level{level}"]).view(-1, *grid)
        for level, grid in enumerate(grids(golden))
    ]
    with torch.no_grad():
        ours = make_flows(golden, DTYPES[precision])(inputs(golden, DTYPES[precision]))
    ours = [x.unflatten(1, grid) for x, grid in zip(ours, grids(golden), strict=True)]  # (B, h, w)
    for log_probs, relative in ((stored, 1e-12), (ours, 1e-10 if precision == "f64" else 1e-5)):
        maps = reference_maps(log_probs, size)
        for level in levels(golden):
            expected = golden[f"{precision}/prob/level{level}"][:, 0]
            np.testing.assert_allclose(maps.likelihoods[level], expected, rtol=relative, atol=relative)
            expected = golden[f"{precision}/map/level{level}"]
            np.testing.assert_allclose(sampled(maps.raised[level]), expected, rtol=relative, atol=relative)
        np.testing.assert_allclose(maps.anomaly_map, golden[f"{precision}/super_mask"], rtol=relative, atol=relative)
        np.testing.assert_allclose(maps.score, golden[f"{precision}/score"], rtol=relative)


def test_published_scores_depend_on_the_other_images(golden):
    log_probs = [
        torch.from_numpy(golden[f"f64/test_dist/level{level}"]).view(-1, *grid) for level, grid in enumerate(grids(golden))
    ]
    size = golden["in/mask"].shape[2:]
    few = reference_maps([x[:2] for x in log_probs], size).score.numpy()
    assert np.abs(few - golden["f64/score"][:2]).max() > 0.01


def test_losses_and_gradients(golden):
    flows = make_flows(golden, torch.float32)
    losses = [sigmoid_loss(log_probs) for log_probs in flows(inputs(golden, torch.float32))]
    for level, loss in enumerate(losses):
        close(loss, golden[f"f32/loss/level{level}"], "score", f"loss of level {level}")
    torch.stack(losses).sum().backward()  # no level's loss has a gradient in another's parameters
    gradients = {name: parameter.grad for name, parameter in flows.named_parameters()}
    expected = parameters(golden, "f32/grad/")
    assert gradients.keys() == expected.keys()
    for name, value in expected.items():
        close(sampled(gradients[name]), value, "gradient", name)


def learning_rate(epoch: int, batch: int, batches: int) -> float:
    """Of one batch of a meta epoch: half a cosine over the meta epochs, with a straight rise in the first."""

    def cosine(at: int) -> float:
        least = LEARNING_RATE * LEAST_SHARE
        return least + (LEARNING_RATE - least) * (1 + math.cos(math.pi * at / META_EPOCHS)) / 2

    if epoch >= WARM_EPOCHS:
        return cosine(epoch)
    first = LEARNING_RATE * WARM_SHARE
    return first + (cosine(WARM_EPOCHS) - first) * (epoch * batches + batch) / (WARM_EPOCHS * batches)


def test_learning_rates(golden):
    stored = golden["sched/lr_25x8"]
    ours = [[learning_rate(epoch, batch, stored.shape[1]) for batch in range(stored.shape[1])] for epoch in range(len(stored))]
    np.testing.assert_allclose(ours, stored, rtol=1e-12)
    stored = golden["train/lr_per_batch"]
    batches = len(stored) // WARM_EPOCHS
    np.testing.assert_allclose([learning_rate(*divmod(i, batches), batches) for i in range(len(stored))], stored, rtol=1e-12)


def published_training(golden, set_to_none: bool) -> tuple[list[float], PositionFlows]:
    """The authors' loop: one Adam over all decoders, one step a fibre of rows, the learning rate set once an image batch.

    set_to_none: whether Adam leaves out the decoders that a fibre does not reach (torch from 2.0), or moves them on by
    their momentum because their gradients are zeros (the authors' torch 1.8).
    """
    flows = make_flows(golden, torch.float32)
    optimizer = torch.optim.Adam(flows.parameters(), lr=LEARNING_RATE)
    fiber, image_batches, permutations = int(golden["train/fiber_N"]), golden["train/batch_image_idx"], count()
    losses = []
    for step, rate in enumerate(golden["train/lr_per_batch"]):
        for group in optimizer.param_groups:
            group["lr"] = rate
        batch = inputs(golden, torch.float32, image_batches[step % len(image_batches)])
        for flow, code, x in zip(flows.flows, flows.codes(), batch, strict=True):
            order = torch.from_numpy(golden[f"train/perm/{next(permutations):03d}"].astype(np.int64))
            rows, conditions = x.flatten(0, 1), code.repeat(len(x), 1)
            for chosen in order.split(fiber):
                if len(chosen) < fiber:
                    continue
                optimizer.zero_grad(set_to_none)
                loss = sigmoid_loss(log_prob_per_dim(*flow(rows[chosen], conditions[chosen])))
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
    return losses, flows


def final_log_probs(golden, flows: PositionFlows) -> list[np.ndarray]:
    with torch.no_grad():
        return [x.flatten().numpy() for x in flows(inputs(golden, torch.float32))]


def test_training_trace(golden):
    losses, flows = published_training(golden, set_to_none=True)
    close(losses, golden["train/loss_steps"], "trace", "loss of every step")
    for level, ours in enumerate(final_log_probs(golden, flows)):
        close(ours, golden[f"train/final_logp_per_dim/level{level}"], "trace", f"log p of level {level} after training")


def test_zeroed_gradients_are_another_training(golden):
    """With gradients set to zero instead of None every step moves all decoders; the head is held to the modern run."""
    losses, flows = published_training(golden, set_to_none=False)
    close(losses, golden["train_zerofill/loss_steps"], "trace", "loss of every step, gradients zeroed")
    apart = 0.0
    for level, ours in enumerate(final_log_probs(golden, flows)):
        close(ours, golden[f"train_zerofill/final_logp_per_dim/level{level}"], "trace", f"log p of level {level}")
        apart = max(apart, np.abs(ours - golden[f"train/final_logp_per_dim/level{level}"]).max())
    assert apart > 0.05
