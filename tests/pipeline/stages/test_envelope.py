import numpy as np
import pytest

from pipeline.scoring.scorer import UnitScores
from pipeline.stages.envelope import explanations_in, maps_in, pack_results

RNG = np.random.default_rng(0)
EVEN = RNG.random((3, 2, 5)).astype(np.float32)
MIXED = [RNG.random(shape).astype(np.float32) for shape in ((2, 3), (0, 0), (1, 7))]


def packed(maps, explanations=None):
    count = len(maps)
    scores = UnitScores(
        np.arange(count, dtype=np.float32), maps, np.zeros((count, 32), np.float16), explanations=explanations or {}
    )
    return pack_results(scores, np.ones(count, bool), None if explanations is None else "grad_cam")


@pytest.mark.parametrize("maps", [EVEN, EVEN[:1], EVEN[:, :, ::2], MIXED, MIXED[:1]])
def test_maps_of_one_size_and_of_many_come_back(maps):
    results = packed(maps)
    found = maps_in(results)
    assert len(found) == len(maps) and all((a == b).all() and a.shape == b.shape for a, b in zip(found, maps, strict=True))
    assert np.frombuffer(results.scores, np.float32).tolist() == list(range(len(maps)))


@pytest.mark.parametrize("given", [{2: MIXED[2] + 1, 0: MIXED[0] + 2}, {1: MIXED[1]}, {}])
def test_explanations_come_back_at_their_positions(given):
    found = explanations_in(packed(MIXED, given), MIXED)
    assert list(found) == list(given)
    assert all((found[i] == given[i]).all() and found[i].shape == given[i].shape for i in given)


def test_no_explanation_is_asked_for():
    assert explanations_in(packed(MIXED), MIXED) == {}
