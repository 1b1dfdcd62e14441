"""Patch SVDD against arrays that the authors' code produced. Shapes and hyper-parameters come from the file."""

import numpy as np
import pytest
import torch
from golden_arrays import PATCHSVDD_CELL_STEP, load, sampled

from models.maps.covering import distribute
from models.patches.encoder import LARGE, LARGE_STRIDE, SMALL, EncoderHier
from models.patches.nearest import nearest
from models.patches.pairs import jittered, neighbours
from models.patches.training import PatchTasks, normalised

STRIDE = 4  # of the small patches
CELLS = PATCHSVDD_CELL_STEP
DIST_EX = (10, 7)  # patch and stride of the group dist_ex, tests/golden/README.md section 6
SEED = 7  # of the samplers, tests/golden/README.md section 6
SCORES = {"rtol": 1e-5, "atol": 0}
EMBEDDINGS = {"rtol": 0, "atol": 1e-5}  # the README: 2e-5 for latents


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    return load("patchsvdd")


def tensor(golden, key: str) -> torch.Tensor:
    return torch.from_numpy(golden[key])


def group(golden, prefix: str) -> dict[str, torch.Tensor]:
    return {key[len(prefix) :]: tensor(golden, key) for key in golden if key.startswith(prefix)}


def our_name(original: str) -> str:
    """Our name in PatchTasks for one of the original's parameters."""
    net, rest = original.split("/")
    if net == "enc":
        name, kind = rest.removeprefix("enc.").split(".")
        number = int(name.removeprefix("conv"))
        inner = f"deep.convolutions.{number - 1}" if rest.startswith("enc.") else ("join", "mix")[number - 1]
        return f"encoder.{inner}.{kind}"
    classifier = {"cls64": "large_positions", "cls32": "small_positions"}[net]
    last = {"fc3.weight": "directions", "fc3.bias": "bias"}
    return f"{classifier}.{last.get(rest, rest)}"


@pytest.fixture
def tasks(golden) -> PatchTasks:
    tasks = PatchTasks(EncoderHier(), pair_loss="distance")
    state = {our_name(key): value for key, value in group(golden, "param/").items()}
    for key in [key for key in state if key.endswith("directions")]:
        state[key] = normalised(state[key])
    tasks.load_state_dict(state)
    return tasks


@pytest.fixture(scope="module")
def inputs(golden) -> dict[str, torch.Tensor]:
    """Centred images of either set, (2, 3, H, W)."""
    mean = golden["in/train_u8"].astype(np.float32).mean(0)
    images = {name: (golden[f"in/{name}_u8"].astype(np.float32) - mean) / np.float32(255) for name in ("train", "test")}
    corner = golden["in/test_std_corner"]
    np.testing.assert_array_equal(images["test"][:, : corner.shape[1], : corner.shape[2]], corner)
    return {name: torch.from_numpy(x).permute(0, 3, 1, 2) for name, x in images.items()}  # (2, 3, H, W)


def close(actual: torch.Tensor, expected: np.ndarray, rtol: float, atol: float, name: str = "") -> None:
    np.testing.assert_allclose(actual.detach().numpy(), expected, rtol=rtol, atol=atol, err_msg=name)


def channels_last(maps: torch.Tensor) -> torch.Tensor:
    return maps.permute(0, 2, 3, 1)  # (B, h, w, 64)


@torch.no_grad()
def test_embeddings_of_patches(golden, tasks):
    for size, encoder in ((LARGE, tasks.encoder), (SMALL, tasks.encoder.deep)):
        assert golden[f"patch{size}/in"].shape[-1] == size
        close(encoder(tensor(golden, f"patch{size}/in")), golden[f"patch{size}/emb_f32"], **EMBEDDINGS)
        double = encoder.double()(tensor(golden, f"patch{size}/in").double())
        close(double, golden[f"patch{size}/emb_f64"], rtol=0, atol=1e-10)
        encoder.float()


@torch.no_grad()
def test_dense_embeddings_are_those_of_the_patches(golden, tasks, inputs):
    test_small, test_large = tasks.encoder.dense(inputs["test"], STRIDE)
    train_small, train_large = tasks.encoder.dense(inputs["train"], STRIDE)
    close(channels_last(test_large), golden["emb64/test"], **EMBEDDINGS)
    close(channels_last(train_large), golden["emb64/train"], **EMBEDDINGS)
    close(channels_last(test_small)[0, ::CELLS, ::CELLS], golden["emb32/test_img0"], **EMBEDDINGS)
    some = golden["emb32/test_img1_stride4"]
    close(channels_last(test_small)[1, ::STRIDE, ::STRIDE], some, **EMBEDDINGS)
    bank = channels_last(train_small)[0].flatten(0, 1)[tensor(golden, "bank32_sel")]  # (M, 64)
    close(bank, golden["bank32_flat"], **EMBEDDINGS)


def bank64(golden) -> torch.Tensor:
    return tensor(golden, "emb64/train").flatten(0, 2)  # (2 * 13 * 13, 64)


def test_nearest_neighbours(golden):
    shape = golden["nn_idx/64"].shape
    distances, rows = nearest(tensor(golden, "emb64/test").flatten(0, 2), bank64(golden))
    close(distances.view(shape), golden["l2/64"], **SCORES)
    assert np.array_equal(rows.view(shape), golden["nn_idx/64"])
    expected = golden["nn_idx/32"][0, ::CELLS, ::CELLS]
    distances, rows = nearest(tensor(golden, "emb32/test_img0").flatten(0, 1), tensor(golden, "bank32_flat"))
    close(distances.view(expected.shape), golden["l2/32"][0, ::CELLS, ::CELLS], **SCORES)
    assert np.array_equal(rows.view(expected.shape), expected)


def test_three_nearest_neighbours(golden):
    expected = golden["l2_nn3/64"]
    queries = tensor(golden, "emb64/test")[: len(expected)].flatten(0, 2)
    distances, _ = nearest(queries, bank64(golden), count=expected.shape[-1])
    close(distances.view(expected.shape), expected, **SCORES)


@torch.no_grad()
def test_maps_and_scores_from_images(golden, tasks, inputs):
    """The whole way; distances of the second image's small patches are only to be had so."""
    small, large = (channels_last(x) for x in tasks.encoder.dense(inputs["test"], STRIDE))
    maps = {}
    for size, stride, embeddings, bank in (
        (LARGE, LARGE_STRIDE, large, bank64(golden)),
        (SMALL, STRIDE, small, tensor(golden, "bank32_flat")),
    ):
        expected = golden[f"nn_idx/{size}"]
        distances, rows = nearest(embeddings.flatten(0, 2), bank)
        close(distances.view(expected.shape), golden[f"l2/{size}"], rtol=1e-5, atol=2e-6)
        assert np.array_equal(rows.view(expected.shape), expected)
        maps[str(size)] = distribute(distances.view(expected.shape), size, stride, *golden[f"map/maps_{size}"].shape[1:])
    for name, pixels in maps.items():
        close(pixels, golden[f"map/maps_{name}"], **SCORES)
    maps |= {"sum": maps["64"] + maps["32"], "mult": maps["64"] * maps["32"]}
    for name, pixels in maps.items():
        close(pixels.amax(dim=(1, 2)), golden[f"score/{name}"], **SCORES)


def test_maps_of_the_stored_distances(golden):
    """Of pixels, and of cells of the small stride, which say the same."""
    for size, stride in ((LARGE, LARGE_STRIDE), (SMALL, STRIDE)):
        expected = golden[f"map/maps_{size}"]
        height, width = expected.shape[1:]
        distances = tensor(golden, f"l2/{size}")
        close(distribute(distances, size, stride, height, width), expected, **SCORES)
        cells = distribute(distances, size // STRIDE, stride // STRIDE, height // STRIDE, width // STRIDE)
        close(cells.repeat_interleave(STRIDE, 1).repeat_interleave(STRIDE, 2), expected, **SCORES)


def test_map_with_borders_that_no_patch_covers(golden):
    expected = golden["dist_ex/out"]
    assert (expected[:, -1] == 0).all() and (expected[:, :, -1] == 0).all()
    close(distribute(tensor(golden, "dist_ex/in"), *DIST_EX, *expected.shape[1:]), expected, **SCORES)


def draws(golden) -> list[torch.Tensor]:
    """The loss group's pairs as PatchTasks reads them: the same for both tasks, the small ones from the corner."""
    pairs = torch.stack([tensor(golden, "loss/x1"), tensor(golden, "loss/x2")], 1)  # (B, 2, 3, 64, 64)
    corner = pairs[..., :SMALL, :SMALL]
    sides = tensor(golden, "loss/y")[:, None].expand(-1, 2)  # (B, 2)
    return [pairs, corner, sides, pairs, corner]


def test_logits(golden, tasks):
    first, second = (tensor(golden, f"loss/x{i}") for i in (1, 2))
    logits = tasks.large_positions(tasks.encoder(first).flatten(1), tasks.encoder(second).flatten(1))
    close(logits, golden["loss/logits64"], rtol=1e-5, atol=1e-5)
    first, second = (tasks.encoder.deep(x[..., :SMALL, :SMALL]).flatten(1) for x in (first, second))
    close(tasks.small_positions(first, second), golden["loss/logits32"], rtol=1e-5, atol=1e-5)


def test_losses_and_gradients(golden, tasks):
    losses = tasks(draws(golden))
    for value, key in zip(losses, ("pos64", "pos32", "svdd64", "svdd32"), strict=True):
        close(value, golden[f"loss/{key}"], rtol=1e-5, atol=0, name=key)
    total = losses.total(svdd_weight=1.0)
    close(total, golden["loss/total"], rtol=1e-5, atol=0)
    total.backward()
    gradients = {name: parameter.grad for name, parameter in tasks.named_parameters()}
    expected = group(golden, "loss/grad/")
    assert not any(key.endswith("fc3.weight") for key in expected)  # the original's never gets one, ours is a buffer
    for original, value in expected.items():  # sampled
        largest = float(value.abs().max())
        close(sampled(gradients[our_name(original)]), value.numpy(), rtol=1e-5, atol=1e-5 * largest, name=original)


@pytest.mark.parametrize("size", [LARGE, SMALL])
def test_samplers(golden, size):
    height, width = golden["in/train_u8"].shape[1:3]
    random = np.random.RandomState(SEED)
    pairs = [jittered(random, height, width, size) for _ in golden[f"sampler/svdd{size}"]]
    assert [[*pair.first, *pair.second] for pair in pairs] == golden[f"sampler/svdd{size}"].tolist()
    random = np.random.RandomState(SEED)
    pairs = [neighbours(random, height, width, size) for _ in golden[f"sampler/pos{size}"]]
    assert [[*pair.first, *pair.second, pair.side] for pair in pairs] == golden[f"sampler/pos{size}"].tolist()
