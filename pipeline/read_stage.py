"""First stage: work items in, decoded units out. Runs on CPUs and never imports torch."""

import time
from collections.abc import Iterator

import pyarrow as pa

from pipeline import plan
from pipeline.commits import WorkItem, committed_since, members_before
from pipeline.decode_process import decode_in_child
from pipeline.envelope import envelope, pack
from pipeline.scoring_config import part_id
from pipeline.sources import registry
from pipeline.sources.config import Start
from pipeline.stage_config import StageConfig
from pipeline.storage import StorageError, open_store


def read_and_decode(items: pa.Table, config: StageConfig) -> Iterator[pa.Table]:
    """Envelopes of decoded units, one a unit, or one with `message` set where storage could not be reached.

    Args:
        items: work items (number, offset, part).
    """
    for item in (WorkItem(**row) for row in items.to_pylist()):
        yield from read_unit(item, config)


def read_unit(item: WorkItem, config: StageConfig) -> Iterator[pa.Table]:
    """The envelopes of one work item: one, or for a tar stream as many as it is cut into.

    Those that are committed already come first, with their counts only: as many and in the order of a first try, which Ray
    needs of a task that it runs again.
    """
    state = config.state
    part, offset = item.part, item.offset
    try:
        for footer in committed_since(state, config.slice, item):
            counts = {name: int(footer[name]) for name in ("scored", "errors")}
            yield envelope(number=item.number, part=part, message=None, **counts)
            if footer["next_offset"] == "end":
                return
            part, offset = part + 1, int(footer["next_offset"])
        item = WorkItem(item.number, offset, part)
        (unit,) = plan.units(state, config.slice, item.number, item.number + 1)
        seen = members_before(state, config.slice, item) if item.part else {}
        source = registry.source(unit["source"])
        store = open_store(config.scoring.source.input_uri)
        clock = time.perf_counter()
        for piece in source.read(unit, store, config.scoring.source, Start(item.offset, item.part, seen)):
            read_s = time.perf_counter() - clock
            clock = time.perf_counter()
            content = _content(piece.table, config)
            assert unit["images"] is None or unit["images"] == piece.table.num_rows, (
                unit["images"],
                piece.table.num_rows,
            )
            unit_id = unit["unit_id"] if unit["images"] is not None else part_id(unit["unit_id"], part, offset)
            yield envelope(
                number=item.number,
                part=part,
                unit_id=unit_id,
                date=unit["date"],
                next_offset="end" if piece.next_offset is None else str(piece.next_offset),
                bytes_read=piece.bytes_read,
                read_s=read_s,
                decode_s=time.perf_counter() - clock,
                **content,
                message=None,
            )
            if piece.next_offset is not None:
                part, offset = part + 1, piece.next_offset
            clock = time.perf_counter()
    except StorageError as error:
        yield envelope(number=item.number, part=part, message=str(error))


def _content(encoded: pa.Table, config: StageConfig) -> dict[str, object]:
    """Rows and pixels; of images that are scored by tiles the rows with the encoded images, which the scorer decodes: how
    large they become is not known before, and pixels that cross processes are to be few."""
    if config.scoring.decode.resize == "tile":
        return {"rows": pack(encoded), "pixels": b""}
    decoded = decode_in_child(encoded, config.scoring.decode, config.decode_timeout_s)
    assert decoded.table.num_rows == encoded.num_rows
    return {"rows": pack(decoded.table), "pixels": memoryview(decoded.pixels).cast("B") if decoded.pixels.size else b""}
