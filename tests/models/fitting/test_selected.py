"""Whole maps are looked at once, with the weights of the epoch that the selection keeps, also after an interruption."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_model import tiny_config

from models import registry, state_file
from models.detector import Detector
from models.fitting.selected import Epoch, Selected
from models.fitting.selection import ExamScores

GOOD = np.array([1.0, 2.0, 3.0, 4.0])
IMAGE = torch.full((1, 64, 96, 3), 90, dtype=torch.uint8)


def epoch(selected: Selected, detector: Detector, above_good: float, ended: bool) -> None:
    """Other weights, whose defects score so much above the good images."""
    with torch.no_grad():
        for parameter in detector.parameters():
            if parameter.requires_grad:
                parameter.add_(0.01)
    selected.stop.update(ExamScores(GOOD, {"spot": GOOD + above_good}))
    selected.epochs.append(Epoch({}, np.zeros(4, np.float32)))

    def maxima(frozen: Detector) -> np.ndarray:
        assert frozen is not detector and not frozen.training
        return frozen.score(IMAGE).anomaly_map.amax(dim=(1, 2)).numpy()

    selected.look_at_whole(detector, ended, maxima)


@pytest.mark.parametrize(("last", "kept"), [(-9.0, 1), (9.0, 2)])  # a worse last epoch is not kept, one as good is
def test_the_kept_epoch_is_looked_at(last: float, kept: int, tmp_path: Path) -> None:
    detector = registry.build(tiny_config())
    detector.fitted = True
    weights: list[dict[str, torch.Tensor]] = []
    selected = Selected(patience=1, groups=list("abcd"))
    for number, above_good in enumerate((1.5, 9.0, last)):
        if number == 2:  # another process goes on
            state_file.write(tmp_path / "state", "these", selected.state_dict())
            selected = Selected(patience=1, groups=list("abcd"))
            selected.load_state_dict(state_file.read(tmp_path / "state", "these"))
        epoch(selected, detector, above_good, ended=number == 2)
        assert (selected.whole is None) == (number < 2)
        weights.append({name: value.clone() for name, value in detector.state_dict().items()})
    assert selected.stop.epochs() == kept + 1
    assert all(torch.equal(value, weights[2][name]) for name, value in detector.state_dict().items())
    detector.load_state_dict(weights[kept])
    expected = detector.freeze().score(IMAGE).anomaly_map.amax(dim=(1, 2)).numpy()
    assert selected.whole is not None and (selected.whole == expected).all()
    assert not any(len(part) for name, part in selected.state_dict().items() if name == "best")
