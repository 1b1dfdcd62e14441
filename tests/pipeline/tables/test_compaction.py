"""Which maps a compaction drops."""

from datetime import UTC, datetime, timedelta

import pyarrow.parquet as pq
import pytest
from tiny_publications import publish_images, set_clock

from pipeline.state.ledger import Ledger
from pipeline.tables import compaction
from pipeline.tables.compaction import compact
from pipeline.tables.delta import open_table
from pipeline.tables.files import data_files


@pytest.fixture
def hours_ago(monkeypatch):
    return lambda hours: set_clock(monkeypatch, datetime.now(UTC) - timedelta(hours=hours), compaction)


def units_of_maps(tmp_path):
    files = data_files(open_table(str(tmp_path), "maps"))
    return [row["unit_id"] for file in files for row in pq.ParquetFile(tmp_path / "maps" / file.path).read().to_pylist()]


@pytest.mark.parametrize(
    "published, kept",
    [
        ((30, 20, 10), ["unit-10", "unit-20", "unit-30"]),
        ((50, 30, 10), ["unit-10", "unit-30"]),
        ((90, 50, 30), ["unit-30"]),
        ((20, 10, 5), ["unit-10", "unit-20", "unit-5"]),
    ],
)
def test_maps_of_every_version_of_a_day_stay(tmp_path, hours_ago, published, kept):
    """Somebody may be joining maps with any version of scores that was the newest within a day."""
    for hours in published:
        hours_ago(hours)
        publish_images(str(tmp_path), f"unit-{hours}", ["a"])
    hours_ago(0)
    assert compact(Ledger(str(tmp_path), "tiles"))["maps"] == (3, 1)
    assert sorted(units_of_maps(tmp_path)) == kept
