"""Publications of tiny rows at moments that a test chooses."""

from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pytest

from pipeline.state.publications import Change, DataFile
from pipeline.storage.store import open_store
from pipeline.tables import changes, publication
from pipeline.tables.changes import schema_text
from pipeline.tables.delta import TABLES, open_table
from pipeline.tables.files import data_files
from pipeline.tables.publication import Draft, publish
from pipeline.tables.writer import PartitionWriter

PARTITION = {"model": "tiles", "period": "2026-01"}


def set_clock(patch: pytest.MonkeyPatch, now: datetime, *modules: object) -> None:
    """What publications, and other modules, take for the present moment."""

    class Moved(datetime):
        @classmethod
        def now(cls, tz=None):
            return now.astimezone(tz)

    for module in (publication, *modules):
        patch.setattr(module, "datetime", Moved)
    patch.setattr(changes, "_now_ms", lambda: int(now.timestamp() * 1000))


def write_images(
    output: str, table: str, unit: str, images: list[str], partition: dict[str, str] = PARTITION
) -> tuple[DataFile, ...]:
    """A data file with a row for each image, not in the table yet."""
    schema = TABLES[table].SCHEMA
    fixed = {**partition, "date": "2026-01-01", "unit_id": unit}
    rows = [{column.name: fixed.get(column.name, _cell(column, image)) for column in schema} for image in images]
    with TemporaryDirectory() as scratch:
        with PartitionWriter(open_store(output), table, schema, partition, "test", Path(scratch)) as writer:
            writer.write(pa.Table.from_pylist(rows, schema))
    return tuple(writer.files)


def publish_images(output: str, unit: str, images: list[str]) -> None:
    """A slice whose images replace all rows of `scores`, and whose maps join those that are there."""

    def prepare(seal, opened):
        files = {name: write_images(output, name, unit, images) for name in ("maps", "scores")}
        remove = {"maps": (), "scores": tuple(data_files(open_table(output, "scores")))}
        columns = {name: schema_text(TABLES[name].SCHEMA) for name in files}
        made = {name: Change(files[name], remove[name], columns[name]) for name in files}
        return Draft(seal, "tiles", "slice", made, seal.number + 1)

    publish(output, prepare)


def _cell(column: pa.Field, image: str) -> str | int | None:
    if pa.types.is_string(column.type):
        return image
    return None if column.nullable else 0
