"""The loop on a small flow: it learns, repeats bit for bit, averages weights, and stops early and clearly on NaN."""

from pathlib import Path

import pytest
import torch

from models.detector import FitRun, Step
from models.features.store import FeatureStore
from models.fitting.loop import AveragedWeights, Gradients, TrainingConfig, TrainingError
from models.fitting.loop import train as train_module
from models.flows.cross_scale import CrossScaleFlow
from models.flows.likelihood import nll_loss

CONFIG = TrainingConfig(epochs=4, batch_size=8, learning_rate=5e-3)


def flow() -> CrossScaleFlow:
    torch.manual_seed(0)
    return CrossScaleFlow(channels=6, scales=2, hidden=8, kernels=(3, 3))


@pytest.fixture
def store(tmp_path: Path):
    generator = torch.Generator().manual_seed(1)
    base = torch.randn(40, 1, 8, 8, generator=generator)
    maps = [(base + 0.3 * torch.randn(40, 6, 8, 8, generator=generator)), torch.randn(40, 6, 4, 4, generator=generator)]
    with FeatureStore(tmp_path, "good") as features:
        features.append(maps)
        yield features


def train(model, prepare, store, positions, config, seed=0, **callbacks) -> None:
    run = FitRun(config, seed, **callbacks)
    train_module(model, lambda maps: nll_loss(*model(maps)), prepare, store, positions, config, run)


def same(maps: list[torch.Tensor]) -> list[torch.Tensor]:
    return maps


def loss_of(model: CrossScaleFlow, store: FeatureStore) -> float:
    with torch.no_grad():
        return float(nll_loss(*model(store.read(torch.arange(len(store))))))


def test_the_loss_falls_and_steps_are_told(store: FeatureStore) -> None:
    model, steps = flow(), list[Step]()
    before = loss_of(model, store)
    train(model, same, store, torch.arange(40), CONFIG, seed=0, on_step=steps.append)
    assert loss_of(model, store) < before - 0.01
    assert len(steps) == 4 * 5 and steps[-1].epoch == 3 and steps[-1].step == 4 and steps[0].steps == 5


@pytest.mark.parametrize(("images", "steps"), [(40, 15), (5, 13), (1, 13)])  # 40 images three times are 15 batches of 8
def test_of_few_images_an_epoch_has_epoch_steps(store: FeatureStore, images, steps) -> None:
    taken = list[Step]()
    config = TrainingConfig(epochs=2, batch_size=8, epoch_steps=13)
    train(flow(), same, store, torch.arange(images), config, on_step=taken.append)
    assert len(taken) == 2 * steps and {step.steps for step in taken} == {steps}


def test_of_many_images_an_epoch_goes_over_each_once(store: FeatureStore) -> None:
    read, taken = [], list[Step]()

    class Watched:
        def read(self, positions):
            read.extend(positions.tolist())
            return store.read(positions)

    train(
        flow(), same, Watched(), torch.arange(40), TrainingConfig(epochs=1, batch_size=8, epoch_steps=5), on_step=taken.append
    )
    assert sorted(read) == list(range(40)) and len(taken) == 5


def test_same_seed_same_weights_and_another_seed_others(store: FeatureStore) -> None:
    found = []
    for seed in (0, 0, 1):
        model = flow()
        train(model, same, store, torch.arange(40), CONFIG.model_copy(update={"noise": 0.1}), seed=seed)
        found.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])


def test_only_the_given_positions_are_read(store: FeatureStore) -> None:
    read: list[int] = []
    original = store.read
    store.read = lambda positions: (read.extend(positions.tolist()), original(positions))[1]  # type: ignore[method-assign]
    train(flow(), same, store, torch.arange(0, 40, 2), CONFIG, seed=0)
    assert set(read) <= set(range(0, 40, 2))


def test_nan_names_epoch_step_and_what_to_do(store: FeatureStore) -> None:
    calls = []

    def poisoned(maps: list[torch.Tensor]) -> list[torch.Tensor]:
        calls.append(1)
        return [x * torch.nan for x in maps] if len(calls) == 7 else maps

    with pytest.raises(TrainingError, match=r"epoch 2, step 2 of 5\. Lower learning_rate"):
        train(flow(), poisoned, store, torch.arange(40), CONFIG, seed=0)


def test_after_epoch_sees_the_average_and_can_stop(store: FeatureStore) -> None:
    model, seen = flow(), []

    def after(epoch: int) -> bool:
        seen.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
        return epoch == 1

    train(model, same, store, torch.arange(40), CONFIG, seed=0, after_epoch=after)
    final = torch.cat([p.detach().flatten() for p in model.parameters()])
    assert len(seen) == 2 and torch.equal(final, seen[-1])


def test_averaged_weights_put_the_own_weights_back() -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(0.0)
        averaged = AveragedWeights(model, decay=0.5)
        model.weight.fill_(1.0)
    averaged.update()
    with averaged.in_place():
        assert model.weight.item() == pytest.approx(1 - 2 / 11)
    assert model.weight.item() == 1.0


def test_no_images_is_an_error(store: FeatureStore) -> None:
    with pytest.raises(TrainingError, match="at least 1"):
        train(flow(), same, store, torch.arange(0), CONFIG, seed=0)


def test_gradients_by_shards_are_those_of_the_batch_and_the_same_on_any_number_of_threads():
    torch.manual_seed(0)
    flow = CrossScaleFlow(channels=6, scales=2, hidden=8, kernels=(3, 3))
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.uniform_(-0.3, 0.3)
    parameters = list(flow.parameters())
    maps = [torch.randn(19, 6, 4, 6), torch.randn(19, 6, 2, 3)]  # two whole shards and one of three images
    nll_loss(*flow(maps)).backward()
    whole = [parameter.grad.clone() for parameter in parameters]
    threads = torch.get_num_threads()
    found = []
    for count in (1, 3):
        gradients = Gradients(lambda shard: nll_loss(*flow(shard)), parameters, "cpu")
        gradients.threads = count
        loss = gradients.set(maps)
        found.append([parameter.grad.clone() for parameter in parameters])
        torch.set_num_threads(threads)
        assert loss == pytest.approx(float(nll_loss(*flow(maps)).detach()), rel=1e-6)
    for one, three, expected in zip(*found, whole, strict=True):
        assert torch.equal(one, three)
        torch.testing.assert_close(one, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_step_leaves_torch_its_threads(device):
    """On a GPU too, where the CPU's threads go on reading and decoding."""
    layer, threads = torch.nn.Linear(2, 1), torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        Gradients(lambda maps: layer(maps[0]).mean(), list(layer.parameters()), device).set([torch.ones(9, 2)])
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)
