"""First stage: work items in, decoded units out. Runs on CPUs and never imports torch."""

import time
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from pipeline.decode.process import decode_in_child
from pipeline.input import registry
from pipeline.input.config import Start
from pipeline.input.listing import open_input
from pipeline.stages.ahead import ahead
from pipeline.stages.config import StageConfig
from pipeline.stages.envelope import envelope, pack
from pipeline.state import plan
from pipeline.state.commits import WorkItem, committed_since, members_before
from pipeline.state.scoring_config import part_id
from pipeline.storage.objects import StorageError


def read_and_decode(items: pa.Table, config: StageConfig) -> Iterator[pa.Table]:
    """Envelopes of decoded units, one a unit, or one with `message` set where storage could not be reached.

    While a unit is decoded the next one is read; so a task holds the encoded bytes of two.

    Args:
        items: work items (number, offset, part).
    """
    units = (unit for row in items.to_pylist() for unit in read_unit(WorkItem(**row), config))
    for unit in ahead(units, 1):
        yield decoded(unit, config)


def read_unit(item: WorkItem, config: StageConfig) -> Iterator[dict[str, Any]]:
    """Columns of the envelopes of one work item, with `encoded`, the rows as they were read: one, or for a tar stream as many
    as it is cut into.

    Those that are committed already come first, with their counts only: as many and in the order of a first try, which Ray
    needs of a task that it runs again.
    """
    state = config.state
    part, offset = item.part, item.offset
    try:
        for footer in committed_since(state, config.slice, item):
            counts = {name: int(footer[name]) for name in ("scored", "errors")}
            yield {"number": item.number, "part": part, "message": None, **counts}
            if footer["next_offset"] == "end":
                return
            part, offset = part + 1, int(footer["next_offset"])
        item = WorkItem(item.number, offset, part)
        (unit,) = plan.units(state, config.slice, item.number, item.number + 1)
        seen = members_before(state, config.slice, item) if item.part else {}
        source = registry.source(unit["source"])
        store = open_input(config.scoring.source)
        clock = time.perf_counter()
        for piece in source.read(unit, store, config.scoring.source, Start(item.offset, item.part, seen)):
            assert unit["images"] is None or unit["images"] == piece.table.num_rows, (
                unit["images"],
                piece.table.num_rows,
            )
            yield {
                "number": item.number,
                "part": part,
                "unit_id": unit["unit_id"] if unit["images"] is not None else part_id(unit["unit_id"], part, offset),
                "date": unit["date"],
                "next_offset": "end" if piece.next_offset is None else str(piece.next_offset),
                "bytes_read": piece.bytes_read,
                "ignored": piece.ignored,
                "read_s": time.perf_counter() - clock,
                "message": None,
                "encoded": piece.table,
            }
            if piece.next_offset is not None:
                part, offset = part + 1, piece.next_offset
            clock = time.perf_counter()
    except StorageError as error:
        yield {"number": item.number, "part": part, "message": str(error)}


def decoded(unit: dict[str, Any], config: StageConfig) -> pa.Table:
    """The envelope of what `read_unit` gave."""
    encoded = unit.pop("encoded", None)
    if encoded is None:
        return envelope(**unit)
    clock = time.perf_counter()
    content = _content(encoded, config)
    return envelope(**unit, **content, decode_s=time.perf_counter() - clock)


def _content(encoded: pa.Table, config: StageConfig) -> dict[str, object]:
    """Rows and pixels; of images that are scored by tiles the rows with the encoded images, which the scorer decodes: how
    large they become is not known before, and pixels that cross processes are to be few."""
    if config.scoring.decode.resize == "tile":
        return {"rows": pack(encoded), "pixels": b""}
    decoded = decode_in_child(encoded, config.scoring.decode, config.decode_timeout_s)
    assert decoded.table.num_rows == encoded.num_rows
    return {"rows": pack(decoded.table), "pixels": memoryview(decoded.pixels).cast("B") if decoded.pixels.size else b""}
