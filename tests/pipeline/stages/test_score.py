import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from tiny_model import tiny_config, tiny_fitted

from models import artifact
from models.config import InputConfig
from pipeline.decode.config import DecodeConfig
from pipeline.input.config import SourceConfig
from pipeline.input.encoded_rows import EncodedRows
from pipeline.stages import score as score_stage
from pipeline.stages.config import StageConfig
from pipeline.state.ledger import Ledger
from pipeline.state.scoring_config import ScoringConfig
from pipeline.storage.objects import Unreachable
from schemas.envelope import DecodedUnit, ScoredUnit, UnitLabel
from schemas.footer import StageSeconds
from schemas.outcome import Outcome


def test_a_model_that_storage_does_not_give_leaves_units_open_and_is_asked_for_again(tmp_path, monkeypatch):
    scoring = ScoringConfig(
        model="m", model_digest="d", source=SourceConfig(input_uri=str(tmp_path)), decode=DecodeConfig(height=8, width=8)
    )
    asked = []

    def refuse(uri, cache):
        asked.append(uri)
        raise Unreachable("no answer after 7 attempts")

    monkeypatch.setattr(score_stage, "local_copy", refuse)
    stage = score_stage.ScoreStage(StageConfig(Ledger(str(tmp_path), "r"), 0, scoring, "s3://bucket/model", str(tmp_path)))
    assert len(asked) == 1
    for number in (3, 4):
        label = UnitLabel(number, 1, "u", "none", None, 0, 0)
        unit = DecodedUnit(label, StageSeconds(), pa.table({"position": [0]}), pa.py_buffer(b"\0" * 192))
        assert list(Outcome.all_in(stage(unit.table()))) == [Outcome(number, 1, message="no answer after 7 attempts")]
    assert asked == ["s3://bucket/model"] * 3


@pytest.fixture
def tiled(tmp_path):
    """Makes a stage, with so many children, of a small model that scores by tiles."""
    size = InputConfig(height=64, width=96, resize="tile")
    config = tiny_config(batch_size=4, input=size)
    digest = artifact.save(tmp_path / "model", config, tiny_fitted(config), "# card\n").model_digest
    scoring = ScoringConfig(
        model="m", model_digest=digest, source=SourceConfig(input_uri=str(tmp_path)), decode=DecodeConfig.of(size)
    )
    stages = []

    def stage(children):
        ledger, model, cache = Ledger(str(tmp_path), "r"), str(tmp_path / "model"), str(tmp_path / "cache")
        made = score_stage.ScoreStage(StageConfig(ledger, 0, scoring, model, cache, "cpu", 2, tile_decoders=children))
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
