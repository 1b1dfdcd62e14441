import io
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import numpy as np
import pyarrow as pa
import pytest
import simplejpeg
import torch
from made_pictures import picture
from PIL import Image
from tiny_model import tiny_config, tiny_fitted

from models import artifact
from models.config import InputConfig
from models.faults import ModelError
from pipeline.decode.config import DecodeConfig
from pipeline.input.config import SourceConfig
from pipeline.input.encoded_rows import EncodedRows
from pipeline.scoring import device_decoder, scorer
from pipeline.scoring.faults import DeviceFault, ReplayDiffers
from pipeline.stages import score as score_stage
from pipeline.stages.config import StageConfig
from pipeline.stages.device_counts import Go, Told
from pipeline.stages.place import Place
from pipeline.stages.read import EncodedUnit, decoded
from pipeline.state.ledger import Ledger
from pipeline.state.scoring_config import ScoringConfig
from pipeline.storage.objects import Unreachable
from schemas.envelope import DecodedUnit, ScoredUnit, UnitLabel
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


@pytest.mark.parametrize("kind", [ReplayDiffers, ModelError])
def test_a_graph_that_gives_other_scores_and_a_machine_that_lacks_something_refuse_too(config, monkeypatch, kind):
    def differs(*arguments):
        raise kind("a replay of the model's CUDA graph must give the bits of a plain call")

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


def stage_config(folder, size, **decode):
    """Of a small model with this input."""
    config = tiny_config(batch_size=4, input=size)
    digest = artifact.save(folder / "model", config, tiny_fitted(config), "# card\n").model_digest
    source = SourceConfig(input_uri=str(folder))
    scoring = ScoringConfig(model="m", model_digest=digest, source=source, decode=DecodeConfig.of(size, **decode))
    return StageConfig(Ledger(str(folder), "r"), 0, scoring, str(folder / "model"), str(folder / "cache"), "cpu", 2)


@pytest.fixture
def tiled(tmp_path):
    """Makes a stage, with so many children, of a small model that scores by tiles."""
    config, stages = stage_config(tmp_path, InputConfig(height=64, width=96, resize="tile")), []

    def stage(children):
        made = score_stage.ScoreStage(replace(config, tile_decoders=children))
        stages.append(made)
        return made

    yield stage
    for made in stages:
        made._children.close()


def tile_unit(number, seeds, left_out=()):
    """A unit that arrives encoded: an image for each seed, but of those left out, which are damaged."""
    rows = EncodedRows("s3://b", SourceConfig(input_uri="s3://b"))
    for position, seed in enumerate(seeds):
        rng, sink = np.random.default_rng(seed), io.BytesIO()
        Image.fromarray(rng.integers(0, 255, (60 + 30 * (seed % 3), 90 + 50 * (seed % 4), 3), np.uint8)).save(sink, "PNG")
        rows.add(f"{seed}.png", sink.getvalue()[: 90 if position in left_out else None], None)
    return DecodedUnit(UnitLabel(number, 0, "u", "none", None, 0, 0), StageSeconds(), rows.table(), None).table()


def test_tiles_give_the_same_bits_with_any_number_of_children_and_beside_damaged_images(tiled, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    units = [tile_unit(number, range(5 * number, 5 * number + 5)) for number in range(4)]
    one = tiled(1)
    wanted = [ScoredUnit.of(one(unit)).results for unit in units]
    with ThreadPoolExecutor(score_stage.ScoreStage.CALLS) as calls:
        for unit, found in zip(wanted, calls.map(tiled(3), units), strict=True):
            assert ScoredUnit.of(found).results == unit
    damaged = ScoredUnit.of(one(tile_unit(0, range(5), left_out=(0, 3))))
    assert [error is not None for error in damaged.rows["error"].to_pylist()] == [True, False, False, True, False]
    scores, whole = (np.frombuffer(results.scores, np.float32) for results in (damaged.results, wanted[0]))
    assert (scores[[1, 2, 4]] == whole[[1, 2, 4]]).all() and len(set(whole.tolist())) == 5


def test_after_an_error_the_children_take_the_next_unit(tiled, monkeypatch):
    stage = tiled(1)
    wanted = ScoredUnit.of(stage(tile_unit(1, range(4)))).results
    with monkeypatch.context() as patched:
        patched.setattr(stage._loaded, "_submit", lambda pixels, used: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            stage(tile_unit(0, range(6)))
    assert ScoredUnit.of(stage(tile_unit(1, range(4)))).results == wanted


def test_a_unit_decoded_on_the_device_has_the_rows_of_the_cpu_and_nearly_its_scores(tmp_path, monkeypatch):
    """With a decoder of the CPU in the place of nvJPEG, which refuses one of the images."""
    contents = [picture(size=(150 + 10 * n, 100)) for n in range(5)]
    contents += [picture("PNG"), contents[0][:-300], picture(progressive=True)]

    def stand_in(encoded):
        images = [bytes(image.numpy()) for image in encoded]
        if contents[3] in images:
            raise RuntimeError("nvjpegDecode failed: 2")
        return [torch.from_numpy(simplejpeg.decode_jpeg(image, "RGB")).permute(2, 0, 1) for image in images]

    monkeypatch.setattr(device_decoder, "DeviceDecoder", partial(device_decoder.DeviceDecoder, decode=stand_in))
    rows = EncodedRows("s3://b", SourceConfig(input_uri="s3://b"))
    for number, content in enumerate(contents):
        rows.add(f"{number}.jpg", content, None)
    unit = EncodedUnit(UnitLabel(0, 0, "u", "none", None, 0, 0), 0.0, rows.table())
    cpu = stage_config(tmp_path, InputConfig(height=64, width=96))
    cuda = replace(
        cpu, scoring=cpu.scoring.model_copy(update={"decode": cpu.scoring.decode.model_copy(update={"decoder": "cuda"})})
    )
    found, wanted = (ScoredUnit.of(score_stage.ScoreStage(config)(decoded(unit, config).table())) for config in (cuda, cpu))
    assert (found.scored_on.device, wanted.scored_on.device) == ("cpu-float32-nvjpeg", "cpu-float32")
    same = ("uri", "width", "height", "captured_at", "stage", "error", "message")
    assert found.rows.select(same).equals(wanted.rows.select(same)) and found.rows.schema == wanted.rows.schema
    assert found.rows["error"].null_count == 7 and found.rows["brightness"].null_count == 1
    scores, others = (np.frombuffer(results.scores, np.float32) for results in (found.results, wanted.results))
    assert (scores[[3, 5, 7]] == others[[3, 5, 7]]).all(), "decoded by the CPU"
    np.testing.assert_allclose(np.delete(scores, 6), np.delete(others, 6), rtol=0.05)
    assert found.results != wanted.results and cuda.scoring.canonical() != cpu.scoring.canonical()
    assert "decoder" not in cpu.scoring.canonical(), "what was scored before there was a choice keeps its ids"
