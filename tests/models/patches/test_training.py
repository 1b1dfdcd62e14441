"""The two tasks; their losses and gradients are in test_patchsvdd_golden.py."""

import pytest
import torch

from models.patches.encoder import EncoderHier, initialise
from models.patches.training import SHARPNESS, Draws, PatchTasks, PositionClassifier, contrast, mean_distance


def test_draws_depend_on_the_seed_alone():
    images = torch.rand(3, 3, 80, 96, generator=torch.Generator().manual_seed(0))
    first, again, other = (Draws(0.02, seed)(images) for seed in (1, 1, 2))
    assert [x.shape for x in first] == [(3, 2, 3, 64, 64), (3, 2, 3, 32, 32), (3, 2), (3, 2, 3, 64, 64), (3, 2, 3, 32, 32)]
    assert all(torch.equal(x, y) for x, y in zip(first, again, strict=True))
    assert not any(torch.equal(x, y) for x, y in zip(first, other, strict=True))


def test_losses_are_means_over_the_draws():
    """So that a batch may be taken by shards. (The contrast is a shard's own.)"""
    torch.manual_seed(0)
    tasks = PatchTasks(EncoderHier(), pair_loss="distance").double()
    patches = [x.double() if x.is_floating_point() else x for x in Draws(0.02, 0)(torch.rand(6, 3, 64, 96))]
    halves = [tasks([x[part] for x in patches]).total(0.5) for part in (slice(0, 3), slice(3, 6))]
    torch.testing.assert_close(tasks(patches).total(0.5), (halves[0] + halves[1]) / 2)


def test_the_last_layer_projects_onto_fixed_directions():
    classifier = PositionClassifier()
    torch.testing.assert_close(classifier.directions.norm(dim=0), torch.ones(128))
    trained = {name for name, _ in classifier.named_parameters()}
    assert trained == {"fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias", "bias"}


def test_the_contrast_is_of_partners_among_other_images_partners():
    one = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 8.0]])
    other = torch.tensor([[0.0, 1.0], [3.0, 4.0], [0.0, 5.0]])
    distances = torch.tensor([[1.0, 5.0, 5.0], [18**0.5, 0.0, 10**0.5], [7.0, 5.0, 3.0]])
    expected = -torch.log_softmax(-SHARPNESS * distances, dim=1).diagonal().mean()
    torch.testing.assert_close(contrast(one, other), expected)
    torch.testing.assert_close(contrast(one[:1], other[:1]), torch.tensor(0.0))
    alike = torch.ones(4, 64)
    torch.testing.assert_close(contrast(alike, alike), torch.tensor(4.0).log())  # a collapse tells nothing


def test_shrinking_the_embeddings_lowers_the_distance_and_raises_the_contrast():
    """Why short training collapses on the original's loss."""
    generator = torch.Generator().manual_seed(0)
    one = torch.rand(8, 64, generator=generator)
    other = one + 0.1 * torch.rand(8, 64, generator=generator)
    assert mean_distance(0.01 * one, 0.01 * other) < 0.011 * mean_distance(one, other)
    assert contrast(0.01 * one, 0.01 * other) > contrast(one, other) + 1


def test_first_embeddings_have_a_spread():
    torch.manual_seed(0)
    encoder = EncoderHier()
    patches = torch.randn(32, 3, 64, 64)
    before = encoder(patches).flatten(1).std(0).mean()
    initialise(encoder)
    after = encoder(patches).flatten(1).std(0).mean()
    assert before < 0.01 < 0.05 < after


@pytest.mark.parametrize("pair_loss", ["contrast", "distance"])
def test_bf16_changes_little(pair_loss):
    torch.manual_seed(0)
    tasks = PatchTasks(EncoderHier(), pair_loss=pair_loss)
    initialise(tasks)
    patches = Draws(0.02, 0)(torch.rand(4, 3, 64, 64))
    exact = tasks(patches)
    tasks.conv_dtype = torch.bfloat16
    for value, expected in zip(tasks(patches), exact, strict=True):
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, expected, rtol=0.05, atol=0.01)
