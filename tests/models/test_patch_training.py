"""The two tasks; their losses and gradients are in test_patchsvdd_golden.py."""

import torch

from models.patch_encoder import EncoderHier
from models.patch_training import Draws, PatchTasks, PositionClassifier


def test_draws_depend_on_the_seed_alone():
    images = torch.rand(3, 3, 80, 96, generator=torch.Generator().manual_seed(0))
    first, again, other = (Draws(0.02, seed)(images) for seed in (1, 1, 2))
    assert [x.shape for x in first] == [(3, 2, 3, 64, 64), (3, 2, 3, 32, 32), (3, 2), (3, 2, 3, 64, 64), (3, 2, 3, 32, 32)]
    assert all(torch.equal(x, y) for x, y in zip(first, again, strict=True))
    assert not any(torch.equal(x, y) for x, y in zip(first, other, strict=True))


def test_losses_are_means_over_the_draws():
    """So that a batch may be taken by shards."""
    torch.manual_seed(0)
    tasks = PatchTasks(EncoderHier()).double()
    patches = [x.double() if x.is_floating_point() else x for x in Draws(0.02, 0)(torch.rand(6, 3, 64, 96))]
    halves = [tasks([x[part] for x in patches]).total(0.5) for part in (slice(0, 3), slice(3, 6))]
    torch.testing.assert_close(tasks(patches).total(0.5), (halves[0] + halves[1]) / 2)


def test_the_last_layer_projects_onto_fixed_directions():
    classifier = PositionClassifier()
    torch.testing.assert_close(classifier.directions.norm(dim=0), torch.ones(128))
    trained = {name for name, _ in classifier.named_parameters()}
    assert trained == {"fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias", "bias"}


def test_bf16_changes_little():
    torch.manual_seed(0)
    tasks = PatchTasks(EncoderHier())
    patches = Draws(0.02, 0)(torch.rand(4, 3, 64, 64))
    exact = tasks(patches)
    tasks.conv_dtype = torch.bfloat16
    for value, expected in zip(tasks(patches), exact, strict=True):
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, expected, rtol=0.05, atol=0.01)
