import random

import pytest
import torch

from models.features.channel_choice import ChannelChoice, draw_channels, draw_evenly, finest_grid, stack


def taps(sizes: tuple[tuple[int, int, int], ...]) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, *size, generator=generator) for size in sizes]


def test_the_draw_is_pythons_random_sample_in_its_order():
    random.seed(5)
    expected = random.sample(range(50), 20)
    assert draw_channels(50, 20, seed=5).tolist() == expected != sorted(expected)
    assert sorted(draw_channels(7, 7, seed=0).tolist()) == list(range(7))
    assert draw_channels(7, 0, seed=0).tolist() == [] and draw_channels(7, 0, seed=0).dtype == torch.int64


@pytest.mark.parametrize(
    ("counts", "dims", "taken"),
    [
        ([256, 512, 1024], 192, [64, 64, 64]),
        ([256, 512, 1024], 64, [21, 21, 22]),
        ([1024, 24], 128, [104, 24]),  # the smaller one gives all, the other the rest
        ([3, 5], 8, [3, 5]),
        ([256, 512, 1024], 2, [0, 1, 1]),  # fewer than there are taps
        ([256, 512, 1024], 1, [0, 0, 1]),
    ],
)
def test_every_tap_gives_as_many_channels(counts, dims, taken):
    drawn = draw_evenly(counts, dims, seed=5)
    starts = [sum(counts[:tap]) for tap in range(len(counts))]
    of_tap = [((drawn >= start) & (drawn < start + count)).sum() for start, count in zip(starts, counts, strict=True)]
    assert of_tap == taken and len(drawn.unique()) == dims and drawn.dtype == torch.int64
    assert not torch.equal(drawn, draw_evenly(counts, dims, seed=6)) or dims == sum(counts)


def test_coarser_taps_are_copied_into_the_cells_of_the_finest():
    maps = taps(((3, 4, 6), (5, 8, 12), (2, 2, 3)))
    assert finest_grid(maps) == (8, 12)
    stacked = stack(maps)
    assert stacked.shape == (2, 10, 8, 12)
    for (first, last), x in zip(((0, 3), (3, 8), (8, 10)), maps, strict=True):
        step = 8 // x.shape[2]
        assert torch.equal(stacked[:, first:last], x.repeat_interleave(step, 2).repeat_interleave(step, 3))


def test_choosing_is_indexing_the_stack():
    for sizes in (((3, 8, 8), (5, 4, 4), (2, 2, 2)), ((3, 7, 5), (5, 4, 3)), ((9, 3, 3),)):
        maps = taps(sizes)
        total = sum(size[0] for size in sizes)
        for dims in (1, 4, total):
            channels = draw_channels(total, dims, seed=dims)
            choice = ChannelChoice(channels, [size[0] for size in sizes])
            assert torch.equal(choice(maps), stack(maps)[:, channels])


def test_a_tap_of_which_nothing_is_chosen():
    maps = taps(((3, 4, 4), (5, 2, 2)))
    choice = ChannelChoice(torch.tensor([0, 7]), [3, 5])
    choice.set(torch.tensor([6, 3]))
    chosen = choice(maps)
    assert not choice.state_dict()
    assert torch.equal(chosen, stack(maps)[:, [6, 3]])
