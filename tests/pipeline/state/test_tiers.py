from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.state import tiers
from pipeline.state.dated_names import named_at
from pipeline.state.ledger import Ledger
from pipeline.state.outcomes import Outcomes
from pipeline.state.tiers import first_of_each, merged, places, tier_rows, write_tier
from schemas.inventory import INVENTORY


def rows(names, number):
    return pa.Table.from_pylist(
        [{"object": name, "etag": "x", "stamp": "s", "date": "2026-01-01", "slice": number} for name in names], tiers.ROWS
    )


def test_the_first_row_of_each_object_is_found():
    place = places(pa.array(["b", "a", "b", "\U0001f600", "\uffee"]))
    assert place.tolist() == [1, 0, 1, 3, 2]
    assert first_of_each(place).tolist() == [1, 0, 4, 3]
    assert first_of_each(np.array([2, 2]), 4).tolist() == [-1, -1, 0, -1]
    assert first_of_each(np.array([], np.int64)).tolist() == []


@pytest.mark.parametrize("count", [0, 1, 16, 17, 31, 32, 33, 100])
def test_rows_are_cut_into_files_and_come_back(tmp_path, monkeypatch, count):
    monkeypatch.setattr(tiers, "ROW_GROUP", 8)
    monkeypatch.setattr(tiers, "PIECE", 16)
    monkeypatch.setattr(tiers, "PIECES_OF_A_FILE", 2)
    ledger = Ledger(str(tmp_path), "csflow")
    table = rows([f"o{number:03d}" for number in range(count)], 7)
    tier = write_tier(ledger, [table.slice(start, 5) for start in range(0, count, 5)], 3, 7)
    assert (tier.rows, tier.first_slice, tier.last_slice) == (count, 3, 7)
    assert [file.rows for file in tier.files] == [32] * (count // 32) + [count % 32] * bool(count % 32)
    assert pa.concat_tables([tiers.ROWS.empty_table(), *tier_rows(ledger, tier).upto("p")]).equals(table)
    for file in tier.files:
        assert abs((datetime.now(UTC) - named_at(file.name)).total_seconds()) < 600
        stored = pq.ParquetFile(tmp_path / tiers.files_prefix(ledger) / file.name)
        assert stored.schema_arrow.names == INVENTORY.names
        assert stored.metadata.row_group(0).num_rows <= 8
        statistics = stored.metadata.row_group(0).column(0).statistics
        assert (statistics.min, file.last) == (file.first, f"o{min(count, (tier.files.index(file) + 1) * 32) - 1:03d}")


def test_of_several_runs_the_first_counts(tmp_path):
    ledger = Ledger(str(tmp_path), "csflow")
    old = write_tier(ledger, [rows(["a", "b", "c", "e"], 2)], 2, 2)
    new = write_tier(ledger, [rows(["b", "d"], 3)], 3, 3)
    found = pa.concat_tables(merged([tier_rows(ledger, new), tier_rows(ledger, old)], Outcomes(ledger, [])))
    assert found["object"].to_pylist() == ["a", "b", "c", "d", "e"]
    assert found["slice"].to_pylist() == [2, 3, 2, 3, 2]
