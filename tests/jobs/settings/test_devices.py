"""Every verb takes the same devices, and none by number."""

import pytest

import flowscore
from jobs.evaluate import EvaluateSettings
from jobs.explain import ExplainSettings
from jobs.settings.bench import BenchSettings
from jobs.settings.calibration import CalibrateSettings
from jobs.settings.scoring import ScoreSettings
from jobs.settings.training import TrainSettings
from models.faults import NoSuchDevice
from pipeline.scoring.device import DeviceSetting

VERBS = (BenchSettings, CalibrateSettings, EvaluateSettings, ExplainSettings, ScoreSettings, TrainSettings)


@pytest.mark.parametrize("settings", VERBS)
def test_a_verb_takes_auto_cpu_and_cuda(settings):
    assert settings.model_fields["device"].annotation == DeviceSetting


@pytest.mark.parametrize("device", ["cuda:1", "gpu", "mps"])
def test_in_python_too_before_the_model_is_fetched(device):
    with pytest.raises(NoSuchDevice, match=f"device must be auto, cpu or cuda; got '{device}'"):
        flowscore.load("s3://no-such-bucket/model", device=device)
