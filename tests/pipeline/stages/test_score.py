import pyarrow as pa

from pipeline.decode.config import DecodeConfig
from pipeline.input.config import SourceConfig
from pipeline.stages import score as score_stage
from pipeline.stages.config import StageConfig
from pipeline.state.ledger import Ledger
from pipeline.state.scoring_config import ScoringConfig
from pipeline.storage.objects import Unreachable
from schemas.envelope import DecodedUnit, UnitLabel
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
