"""What every fit does around the detector's own part of it."""

import pytest
import torch
from pydantic import BaseModel
from torch.utils import deterministic

from models.detector import Detector, FitRun


class Settings(BaseModel):
    pass


class Drawn:
    def read(self, positions):
        return [torch.arange(8.0)[positions].view(-1, 1, 1, 1)]


def flags():
    enabled, warns = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    return enabled, warns, deterministic.fill_uninitialized_memory


class Watching(Detector):
    """Notes torch's settings while it is fitted."""

    def __init__(self, fails=False):
        super().__init__()
        self.seen, self.fails = [], fails

    def _fit(self, features, positions, run):
        self.seen.append(flags())
        if run.after_epoch is not None:
            run.after_epoch(0)
        if self.fails:
            raise RuntimeError("no luck")


@pytest.mark.parametrize(("device", "enabled"), [("cuda", True), ("cpu", False)])
def test_on_a_gpu_sums_of_a_fit_have_one_order_and_scores_between_its_epochs_are_computed_as_always(device, enabled):
    before, between = flags(), []
    detector = Watching()
    run = FitRun(Settings(), device=device, after_epoch=lambda epoch: between.append(flags()) or False)
    detector.fit(Drawn(), torch.arange(8), run)
    assert [detector.seen[0][0], between[0][0]] == [enabled, False]
    assert not enabled or detector.seen[0] == (True, True, False)
    assert flags() == before


def test_a_fit_that_fails_leaves_the_settings_as_they_were():
    before = flags()
    with pytest.raises(RuntimeError, match="no luck"):
        Watching(fails=True).fit(Drawn(), torch.arange(8), FitRun(Settings(), device="cuda"))
    assert flags() == before
