"""The chart's false alarms, its states night by night, and the sources it names."""

import numpy as np
import pytest

from models.faults import VerdictError
from models.verdicts.cusum import LIMIT
from models.verdicts.drift import Reference, chart, judge, start
from models.verdicts.night_channels import CHANNELS, NightImages, centres, night_channels

FLOORS = np.array([channel.floor for channel in CHANNELS])


def nights(count, seed, channels=8):
    """Reference nights whose spread is well above the floors, so that these do not decide."""
    return np.random.default_rng(seed).normal(size=(count, channels)) * 10 * FLOORS[:channels]


def alarms(reference_nights, runs, heavy=False):
    rng = np.random.default_rng(1)
    over = 0
    for _ in range(runs):
        drawn = rng.standard_t(2, (reference_nights + 1, 8)) if heavy else rng.normal(size=(reference_nights + 1, 8))
        drawn *= 10 * FLOORS
        over += chart(Reference(drawn[:-1]), drawn[-1]).over.any()
    return over / runs


@pytest.mark.parametrize(("reference_nights", "expected"), [(20, 0.0296), (32, 0.0296), (33, 1 / 34), (70, 2 / 71)])
def test_unchanged_nights_are_over_at_the_promised_rate(reference_nights, expected):
    runs = 4000
    assert alarms(reference_nights, runs) == pytest.approx(expected, abs=3.5 * np.sqrt(expected / runs))


def test_ranks_need_no_normal_nights():
    """With heavy tails (t of 2 degrees) the rank rule keeps 1/34; the limit for normal nights would not."""
    runs = 4000
    assert alarms(33, runs, heavy=True) <= 1 / 34 + 3.5 * np.sqrt(1 / 34 / runs)
    assert alarms(20, runs, heavy=True) > 0.1


@pytest.mark.parametrize("count", [20, 40])
@pytest.mark.parametrize("index", range(8))
def test_the_source_is_that_of_the_moved_channel(index, count):
    reference = Reference(nights(count, 0))
    tonight = reference.nights.mean(0)
    tonight[index] += 8 * reference.spread()[index]
    _, found = judge(reference, start(reference), tonight)
    assert (found.state, found.sources) == ("watch", (CHANNELS[index].source,))
    assert CHANNELS[index].name.replace("_", " ") in found.sentence and "higher" in found.sentence


def test_ties_are_named_together():
    reference = Reference(nights(20, 0))
    tonight = reference.nights.mean(0) - np.array([8, 0, 7.5, 6, 0, 0, 0, 0]) * reference.spread()
    _, found = judge(reference, start(reference), tonight)
    assert found.sources == ("light", "focus")  # and not the fixture, which moved less


def test_states_night_by_night():
    reference = Reference(nights(20, 0))
    usual = reference.nights.mean(0)
    moved = usual.copy()
    moved[2] -= 9 * reference.spread()[2]
    carried, states = start(reference), []
    for tonight in [usual, moved, usual, moved, moved, moved, usual, usual, usual]:
        carried, found = judge(reference, carried, tonight)
        states.append(found.state)
    assert states[:6] == ["ok", "watch", "ok", "watch", "suspended", "suspended"]
    assert states[-1] == "ok"  # repaired: two quiet nights are enough


def test_a_small_shift_that_stays_is_found_by_the_sums():
    reference = Reference(nights(20, 3))
    tonight = reference.nights.mean(0)
    tonight[4] += 2 * reference.spread()[4]  # below the limit of 3.4 on every night
    carried, states = start(reference), []
    for _ in range(12):
        carried, found = judge(reference, carried, tonight)
        states.append(found.state)
    # 2 spreads less k = 1.0 a night: over 7 after the 8th night
    assert states == ["ok"] * 7 + ["suspended"] * 5
    assert found.sources == ("model",) and "slow drift" in found.sentence and carried.cusum.largest()[4] > LIMIT


@pytest.mark.parametrize("count", [20, 40])
def test_what_is_below_the_floor_never_alarms(count):
    rng = np.random.default_rng(0)
    reference = Reference(rng.normal(size=(count, 8)) * FLOORS / 1000)  # nights that hardly differ
    carried = start(reference)
    for _ in range(30):
        carried, found = judge(reference, carried, reference.nights.mean(0) + 0.9 * FLOORS)
        assert found.state == "ok" and not found.sources
    _, found = judge(reference, start(reference), reference.nights.mean(0) + 1.1 * FLOORS)
    assert found.state == "watch"


@pytest.mark.parametrize("count", [20, 40])
def test_a_channel_that_never_moved_is_over_beyond_its_floor(count):
    stored = nights(count, 0)
    stored[:, 3] = np.log(1e6)
    reference = Reference(stored)
    tonight = stored.mean(0)
    tonight[3] += 0.004
    assert judge(reference, start(reference), tonight)[1].state == "ok"
    tonight[3] += 0.1
    assert judge(reference, start(reference), tonight)[1].sources == ("fixture",)


def test_words_of_a_share():
    reference = Reference(nights(20, 0) / 100 + 0.05)
    tonight = reference.nights.mean(0)
    tonight[7] = np.arcsin(np.sqrt(0.05))
    _, found = judge(reference, start(reference), tonight)
    assert "embedding count 5 % instead of 0.2" in found.sentence and found.sources == ("mix",)


@pytest.mark.parametrize("stored", [np.zeros((19, 8)), np.zeros((20, 7)), np.full((20, 8), np.nan), np.zeros(20)])
def test_a_reference_has_20_whole_nights(stored):
    with pytest.raises(VerdictError, match="nights must be finite, at least 20"):
        Reference(stored)
    with pytest.raises(VerdictError, match="night must be 8 finite numbers"):
        chart(Reference(nights(20, 0)), [1.0] * 6)


@pytest.mark.parametrize("count", [20, 40, 100])
def test_small_nights_keep_the_promised_rate_as_a_rare_image_is_not_rare_there(count):
    """Most nights of 40 images have none above the tail, so that one such image was over on one night in ten."""
    rng, runs = np.random.default_rng(5), 400
    over, over_by_counts = 0, 0
    for _ in range(runs):
        drawn = [rng.normal(size=(6, count)) for _ in range(21)]
        every = [NightImages(["a"] * count, *np.exp(4 + 0.1 * each[:4]), each[4], each[5]) for each in drawn]
        centred = centres(every[:-1])
        channels = np.stack([night_channels(night, centred) for night in every])
        over += chart(Reference(channels[:-1], count), channels[-1]).over.any()
        over_by_counts += chart(Reference(channels[:-1]), channels[-1]).over[[5, 7]].any()
    assert over / runs <= 0.03 + 2 * np.sqrt(0.03 / runs)
    assert over_by_counts / runs > 0.04
