import numpy as np
import pyarrow as pa
import pytest

from schemas.envelope import DECODED, SCORED, DecodedUnit, Results, ScoredUnit, UnitLabel, WorkItem, item_table, items_in
from schemas.footer import StageSeconds
from schemas.scored_on import ScoredOn

LABEL = UnitLabel(3, 1, "u" * 32, "2026-01-01", 1 << 40, 54, 2)
SECONDS = StageSeconds(read=0.5, decode=0.25)
ROWS = pa.table({"position": [0, 1], "error": ["x", None]})
RESULTS = Results(*(pa.py_buffer(bytes([n]) * n) for n in range(4)), map_sides=[2, 3, 0, 0])


@pytest.mark.parametrize("pixels", [np.arange(24, dtype=np.uint8).reshape(1, 2, 4, 3), np.zeros((0, 2, 4, 3), np.uint8), None])
@pytest.mark.parametrize("label", [LABEL, LABEL._replace(next_offset=None)])
def test_decoded_units_come_back(label, pixels):
    unit = DecodedUnit(label, SECONDS, ROWS, None if pixels is None else pa.py_buffer(pixels))
    table = unit.table()
    assert table.schema == DECODED and table.num_rows == 1
    assert DecodedUnit.of(table) == unit


@pytest.mark.parametrize(
    "results",
    [RESULTS, RESULTS._replace(explained=RESULTS.maps, explanations=RESULTS.scores, explanation_method="cam"), None],
)
@pytest.mark.parametrize("threshold", [0.25, None])
def test_scored_units_come_back(threshold, results):
    unit = ScoredUnit(LABEL, SECONDS, ROWS, ScoredOn("cuda-bf16", "NVIDIA L4", True), threshold, results)
    table = unit.table()
    assert table.schema == SCORED and table.num_rows == 1
    assert ScoredUnit.of(table) == unit


def test_pixels_are_never_copied():
    pixels = np.arange(24, dtype=np.uint8)
    there = DecodedUnit(LABEL, SECONDS, ROWS, pa.py_buffer(pixels)).table()
    assert DecodedUnit.of(there).pixels.address == pixels.ctypes.data
    beside = pa.concat_tables([DecodedUnit(LABEL, SECONDS, ROWS, None).table(), there]).combine_chunks()
    assert [DecodedUnit.of(beside.slice(i, 1)).pixels for i in (0, 1)] == [None, pa.py_buffer(pixels)]


def test_an_envelope_holds_one_unit():
    table = DecodedUnit(LABEL, SECONDS, ROWS, None).table()
    with pytest.raises(AssertionError, match="2 units in one envelope"):
        DecodedUnit.of(pa.concat_tables([table, table]))


def test_work_items_come_back():
    items = [WorkItem(1), WorkItem(2, 1 << 40, 3)]
    assert list(items_in(item_table(items))) == items
