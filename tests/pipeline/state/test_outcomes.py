import pyarrow as pa
from sealed_slices import put_tally

from pipeline.state.ledger import Ledger
from pipeline.state.outcomes import Outcomes, tallied


def test_outcomes_go_to_rows_of_their_slice_alone(tmp_path):
    ledger = Ledger(str(tmp_path), "csflow")
    put_tally(ledger, 2, {"a": "gone", "b": "changed", "d": "refused"})
    put_tally(ledger, 3, {"b": "archived"})
    assert tallied(ledger, [2, 3, 4]) == [2, 3]
    outcomes = Outcomes(ledger, [2, 3])
    rows = pa.table(
        {"slice": pa.array([2, 3, 2, 9, None], pa.int32()), "outcome": pa.array([None, None, None, "gone", None], pa.string())}
    )
    laid = outcomes.over(rows, pa.array(["a", "b", "c", "d", "e"]), "e")
    assert laid["outcome"].to_pylist() == ["gone", "archived", None, "gone", None]
    assert laid["slice"] == rows["slice"]
