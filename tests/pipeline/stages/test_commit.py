"""What the commit of a unit holds: scores, maps, regions, errors. A score that is not finite is an error row (row 7 of the
design's table of bad input), never a value."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.maps.quantise import dequantise
from models.maps.regions import MAX_REGIONS, find_regions
from pipeline.decode.config import DecodeConfig
from pipeline.decode.geometry import placement
from pipeline.input.config import SourceConfig
from pipeline.scoring.scorer import UnitScores
from pipeline.stages.commit import commit, commit_rows
from pipeline.stages.config import StageConfig
from pipeline.stages.envelope import pack_results
from pipeline.state.commits import footer_of
from pipeline.state.ledger import Ledger
from pipeline.state.scoring_config import ScoringConfig
from schemas import commit as commit_schema
from schemas import encoded as encoded_schema
from schemas.envelope import ScoredUnit, UnitLabel
from schemas.footer import StageSeconds
from schemas.outcome import Outcome
from schemas.scored_on import ScoredOn

SCORED_ON = ScoredOn("cuda-bf16", "NVIDIA L4", one_by_one=True)
N, H, W = 6, 3, 4
DECODE = DecodeConfig(height=12, width=16)


def scored_unit(score, anomaly_map, failed=(), map_threshold=None, explanations=None):
    names = set(encoded_schema.SCHEMA.names) - {"encoded"}
    rows = [
        {"position": i, "image_id": f"{i:032x}", "uri": "file:///x", "key": str(i), "keys": [], "bytes": 9}
        | ({"stage": "decode", "error": "corrupt", "message": "bad"} if i in failed else {"width": 50, "height": 60})
        for i in range(N)
    ]
    schema = pa.schema([f for f in commit_schema.SCHEMA if f.name in names] + commit_schema.DECODED)
    finite = np.isfinite(score) & np.isfinite(anomaly_map).all(axis=(1, 2))
    scores = UnitScores(
        score.astype(np.float32), anomaly_map.astype(np.float32), np.ones((N, 32), np.float16), explanations or {}
    )
    return ScoredUnit(
        label=UnitLabel(3, 0, "u" * 32, "none", None, 54, 4),
        seconds=StageSeconds(read=0.1, decode=0.2, copy=0.25, score=0.3, wait=0.4, host=0.5),
        rows=pa.Table.from_pylist(rows, schema=schema),
        scored_on=SCORED_ON,
        map_threshold=map_threshold,
        results=pack_results(scores, finite, None if explanations is None else "grad_cam"),
    )


@pytest.fixture
def values():
    rng = np.random.default_rng(0)
    return rng.normal(size=N), rng.normal(size=(N, H, W))


def test_rows_hold_scores_maps_and_earlier_errors(values):
    rows = commit_rows(scored_unit(*values, failed={1}), DECODE)
    assert rows.schema.names == commit_schema.SCHEMA.names
    assert rows["score"].to_pylist() == [None if i == 1 else np.float32(s) for i, s in enumerate(values[0])]
    assert rows["error"].to_pylist() == [None, "corrupt", None, None, None, None]
    row = rows.slice(2, 1).to_pylist()[0]
    back = np.frombuffer(row["map"], np.uint8).reshape(H, W) * row["map_scale"] + row["map_offset"]
    assert np.abs(back - values[1][2]).max() <= np.ptp(values[1][2]) / 510 + 1e-6
    assert len(row["embedding"]) == 64
    assert set(rows["regions"].to_pylist()) == set(rows["region_count"].to_pylist()) == {None}, "no threshold, no regions"


@pytest.mark.parametrize("resize", ["squash", "pad"])
def test_rows_hold_the_regions_of_the_unquantised_map(values, resize):
    score, anomaly_map = values[0], values[1].astype(np.float32)
    anomaly_map[3] = -9.0
    threshold = float(np.sort(anomaly_map[2].ravel())[-3])  # two cells are above, perhaps by less than a step of the bytes
    decode = DECODE.model_copy(update={"resize": resize})
    rows = commit_rows(scored_unit(score, anomaly_map, failed={1}, map_threshold=threshold), decode)
    where = placement((50, 60), decode)
    for i, row in enumerate(rows.to_pylist()):
        if i == 1:
            assert row["regions"] is None and row["region_count"] is None, "an error row has none"
            continue
        found = find_regions(anomaly_map[i], threshold, where)
        assert row["region_count"] == found.count == len(row["regions"])
        assert [list(each) for each in row["regions"]] == [commit_schema.REGION.names] * found.count
        for each, region in zip(row["regions"], found.regions, strict=True):
            assert each == pytest.approx(region._asdict(), rel=1e-6)
            assert each["peak"] == region.peak, "as it was scored, bit for bit"
    assert rows["regions"][3].as_py() == [] and rows["region_count"][3].as_py() == 0
    assert (np.sum(where.shown(anomaly_map[2]) > threshold) > 0) == (rows["region_count"][2].as_py() > 0)
    assert rows.schema.field("regions").type == commit_schema.SCHEMA.field("regions").type


def test_rows_hold_explanations_of_images_with_a_region(values):
    score, anomaly_map = values[0], values[1].astype(np.float32)
    anomaly_map[3] = -9.0
    rng = np.random.default_rng(1)
    given = {i: rng.random((H, W)).astype(np.float32) for i in (1, 2, 3)}
    unit = scored_unit(score, anomaly_map, failed={1}, map_threshold=float(anomaly_map[2].max()) - 1e-3, explanations=given)
    rows = commit_rows(unit, DECODE)
    assert rows["explanation_method"].to_pylist() == [None, None, "grad_cam", None, None, None], "3 has no region, 1 an error"
    row = rows.to_pylist()[2]
    back = dequantise(row["explanation"], H, W, row["explanation_scale"], row["explanation_offset"])
    assert np.abs(back - given[2]).max() <= np.ptp(given[2]) / 510 + 1e-6
    for name in ("explanation", "explanation_scale", "explanation_offset"):
        assert [cell is not None for cell in rows[name].to_pylist()] == [i == 2 for i in range(N)]


def test_regions_past_the_limit_are_counted(values):
    anomaly_map = np.zeros((N, 32, 32))
    anomaly_map[:, ::2, ::2] = 1.0
    rows = commit_rows(scored_unit(values[0], anomaly_map, map_threshold=0.5), DECODE)
    assert rows["region_count"].to_pylist() == [256] * N
    assert {len(regions) for regions in rows["regions"].to_pylist()} == {MAX_REGIONS}
    assert str(MAX_REGIONS) in commit_schema.SCHEMA.field("regions").metadata[b"meaning"].decode()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", ["score", "map"])
def test_row_7_not_finite_is_an_error_row(values, bad, place):
    score, anomaly_map = values
    if place == "score":
        score[4] = bad
    else:
        anomaly_map[4, 1, 2] = bad
    row = commit_rows(scored_unit(score, anomaly_map, map_threshold=0.0), DECODE).slice(4, 1).to_pylist()[0]
    assert (row["stage"], row["error"]) == ("score", "not_finite")
    assert row["score"] is None and row["map"] is None and row["embedding"] is None and row["regions"] is None


def test_the_commit_holds_the_unit_and_is_never_written_twice(values, tmp_path):
    scoring = ScoringConfig(
        model="m", model_digest="d", source=SourceConfig(input_uri="in"), decode=DecodeConfig(height=8, width=8)
    )
    config = StageConfig(Ledger(str(tmp_path), "r"), 2, scoring, "model", "cache")
    unit = scored_unit(*values, failed={0}, map_threshold=0.25)
    assert list(Outcome.all_in(commit(unit.table(), config))) == [
        Outcome(3, 0, 5, 1, new=True, bytes_read=54, scored_on=str(SCORED_ON))
    ]
    path = tmp_path / config.ledger.commit_key(2, 3, 0)
    first = path.read_bytes()
    footer = footer_of(pq.read_metadata(path).metadata)
    counts = pq.read_table(path)["region_count"].to_pylist()
    assert counts[0] is None and sum(counts[1:]) == sum(map(len, pq.read_table(path)["regions"].to_pylist()[1:])) > 0
    assert footer.scored_on == SCORED_ON
    assert (footer.number, footer.scored, footer.errors, footer.next_offset, footer.ignored) == (3, 5, 1, None, 4)
    assert footer.seconds._replace(commit=0) == unit.seconds and footer.seconds.commit > 0
    (again,) = Outcome.all_in(commit(scored_unit(*values).table(), config))
    assert again.new is False and path.read_bytes() == first
    assert again.scored_on is None, "another attempt wrote it, maybe on another device"


def test_a_unit_that_storage_did_not_give_stays_open():
    outcome = Outcome(7, 2, message="no answer")
    assert list(Outcome.all_in(commit(outcome.table(), None))) == [outcome]
