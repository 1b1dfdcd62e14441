import os
from dataclasses import replace

import pyarrow as pa
import pytest
import torch

from pipeline.decode.config import DecodeConfig
from pipeline.input.config import SourceConfig
from pipeline.scoring import scorer
from pipeline.scoring.faults import DeviceFault, ReplayDiffers
from pipeline.stages import score as score_stage
from pipeline.stages.config import StageConfig
from pipeline.stages.device_counts import Go, Told
from pipeline.stages.place import Place
from pipeline.state.ledger import Ledger
from pipeline.state.scoring_config import ScoringConfig
from pipeline.storage.objects import Unreachable
from schemas.envelope import DecodedUnit, UnitLabel
from schemas.footer import StageSeconds
from schemas.outcome import Outcome


@pytest.fixture
def config(tmp_path):
    scoring = ScoringConfig(
        model="m", model_digest="d", source=SourceConfig(input_uri=str(tmp_path)), decode=DecodeConfig(height=8, width=8)
    )
    return StageConfig(Ledger(str(tmp_path), "r"), 0, scoring, "s3://bucket/model", str(tmp_path))


def unit(number):
    label = UnitLabel(number, 1, "u", "none", None, 0, 0)
    return DecodedUnit(label, StageSeconds(), pa.table({"position": [0]}), pa.py_buffer(b"\0" * 192)).table()


def test_a_model_that_storage_does_not_give_leaves_units_open_and_is_asked_for_again(config, monkeypatch):
    asked = []

    def refuse(uri, cache):
        asked.append(uri)
        raise Unreachable("no answer after 7 attempts")

    monkeypatch.setattr(score_stage, "local_copy", refuse)
    stage = score_stage.ScoreStage(config)
    assert len(asked) == 1
    for number in (3, 4):
        assert list(Outcome.all_in(stage(unit(number)))) == [Outcome(number, 1, message="no answer after 7 attempts")]
    assert asked == ["s3://bucket/model"] * 3


def test_a_scorer_without_the_device_that_it_was_told_refuses_every_unit_and_loads_nothing(config, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(score_stage, "local_copy", lambda uri, cache: pytest.fail("the model was fetched"))
    stage = score_stage.ScoreStage(replace(config, device="cuda"))
    for number in (3, 4):
        (outcome,) = Outcome.all_in(stage(unit(number)))
        assert outcome.message is None and outcome.refused is not None
        assert "must find the GPU that it was told to score on" in outcome.refused


def test_a_graph_that_gives_other_scores_refuses_too(config, monkeypatch):
    def differs(*arguments):
        raise ReplayDiffers("a replay of the model's CUDA graph must give the bits of a plain call")

    monkeypatch.setattr(score_stage, "local_copy", lambda uri, cache: None)
    monkeypatch.setattr(scorer, "open_scorer", differs)
    (outcome,) = Outcome.all_in(score_stage.ScoreStage(config)(unit(3)))
    assert outcome == Outcome(3, 1, refused="a replay of the model's CUDA graph must give the bits of a plain call")


class Ended(BaseException):
    """In place of the process's end."""


@pytest.fixture
def ends(monkeypatch):
    def leave(status):
        raise Ended

    monkeypatch.setattr(os, "_exit", leave)
    monkeypatch.setattr(score_stage, "local_copy", lambda uri, cache: None)


def test_a_device_that_fails_while_the_model_is_loaded_ends_the_process(config, monkeypatch, ends, capsys):
    def fails(*arguments):
        raise RuntimeError("CUDA error: initialization error\na page of advice")

    monkeypatch.setattr(scorer, "open_scorer", fails)
    with pytest.raises(Ended):
        score_stage.ScoreStage(config)
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "cpu failed at the model: CUDA error: initialization error; this process ends"


def test_a_model_that_does_not_fit_at_first_is_loaded_once_more(config, monkeypatch, ends):
    asked = []

    def crowded(*arguments):
        asked.append(arguments)
        if len(asked) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        raise ReplayDiffers("loaded")

    monkeypatch.setattr(scorer, "open_scorer", crowded)
    score_stage.ScoreStage(config)
    assert len(asked) == 2


def test_a_device_that_fails_at_a_batch_ends_the_process(config, monkeypatch, ends, capsys):
    class Failing:
        tiling = None

        def __call__(self, pixels):
            raise DeviceFault("cuda failed at a batch")

    monkeypatch.setattr(scorer, "open_scorer", lambda *arguments: Failing())
    stage = score_stage.ScoreStage(config)
    with pytest.raises(Ended):
        stage(unit(3))
    assert capsys.readouterr().err == "cuda failed at a batch; this process ends\n"


def test_a_scorer_that_is_told_that_no_device_is_left_loads_nothing_and_refuses(config, monkeypatch):
    monkeypatch.setattr(score_stage, "local_copy", lambda uri, cache: pytest.fail("the model was fetched"))
    place = Place()
    monkeypatch.setattr(place, "_ask", lambda: Told(Go.REFUSE, message="no device is left"))
    stage = score_stage.ScoreStage(config, place)
    assert list(Outcome.all_in(stage(unit(3)))) == [Outcome(3, 1, refused="no device is left")]
