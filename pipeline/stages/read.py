"""First stage: turns work items into decoded units. Runs on CPUs and never imports torch."""

import time
from collections.abc import Generator, Iterator
from typing import NamedTuple

import pyarrow as pa

from pipeline.decode.for_device import sorted_for_device
from pipeline.decode.process import decode_in_child
from pipeline.input import registry
from pipeline.input.config import Start
from pipeline.input.listing import open_input
from pipeline.stages.config import StageConfig
from pipeline.state import slices
from pipeline.state.commits import committed_since, members_before
from pipeline.state.scoring_config import part_id
from pipeline.storage.ahead import ahead
from pipeline.storage.objects import StorageError
from pipeline.storage.store import ReadStore
from schemas.envelope import DecodedUnit, UnitLabel, WorkItem, items_in
from schemas.footer import StageSeconds
from schemas.outcome import Outcome


class EncodedUnit(NamedTuple):
    """A unit as read. encoded: rows of schemas/encoded.py."""

    label: UnitLabel
    read_s: float
    encoded: pa.Table


def read_and_decode(items: pa.Table, config: StageConfig) -> Iterator[pa.Table]:
    """One envelope per decoded unit; the outcome instead when storage could not be reached or a commit exists.

    While one unit is decoded the next one is read, so a task holds the encoded bytes of two.

    Args:
        items: work items.
    """
    units = (unit for item in items_in(items) for unit in read_unit(item, config))
    for unit in ahead(units, 1):
        yield unit.table() if isinstance(unit, Outcome) else decoded(unit, config).table()


def read_unit(
    item: WorkItem, config: StageConfig, store: ReadStore | None = None
) -> Generator[EncodedUnit | Outcome, None, None]:
    """The units of one work item: one, or as many as a stream is cut into.

    Committed units come first, as their outcomes: Ray requires that a task it runs again yields as many rows as at first, in
    the same order.

    Args:
        store: where the images are, by default the config's input.
    """
    ledger = config.ledger
    part, offset = item.part, item.offset
    try:
        for footer in committed_since(ledger, config.slice, item):
            yield Outcome(item.number, part, footer.scored, footer.errors)
            if footer.next_offset is None:
                return
            part, offset = part + 1, footer.next_offset
        item = WorkItem(item.number, offset, part)
        (unit,) = slices.units(ledger, config.slice, item.number, item.number + 1)
        seen = members_before(ledger, config.slice, item) if item.part else {}
        source = registry.source(unit.source)
        store = store or open_input(config.scoring.source)
        clock = time.perf_counter()
        for piece in source.read(unit, store, config.scoring.source, Start(item.offset, item.part, seen)):
            assert unit.images in (None, piece.table.num_rows), (unit.images, piece.table.num_rows)
            unit_id = unit.unit_id if unit.images is not None else part_id(unit.unit_id, part, offset)
            label = UnitLabel(item.number, part, unit_id, unit.date, piece.next_offset, piece.bytes_read, piece.ignored)
            yield EncodedUnit(label, time.perf_counter() - clock, piece.table)
            if piece.next_offset is not None:
                part, offset = part + 1, piece.next_offset
            clock = time.perf_counter()
    except StorageError as error:
        yield Outcome(item.number, part, message=str(error))


def decoded(unit: EncodedUnit, config: StageConfig) -> DecodedUnit:
    """The unit with its pixels. A unit that is scored by tiles keeps the encoded images for the scorer to decode: their size
    is not known before, and few pixels should cross processes. So do JPEGs that the device decodes."""
    seconds = StageSeconds(read=unit.read_s)
    if config.scoring.decode.resize == "tile":
        return DecodedUnit(unit.label, seconds, unit.encoded, None)
    clock = time.perf_counter()
    if config.scoring.decode.decoder == "cuda":
        chosen = sorted_for_device(unit.encoded, config.scoring.decode, config.decode_timeout_s)
        seconds = seconds._replace(decode=time.perf_counter() - clock)
        return DecodedUnit(unit.label, seconds, chosen.table, pa.py_buffer(chosen.pixels))
    found = decode_in_child(unit.encoded, config.scoring.decode, config.decode_timeout_s)
    assert found.table.num_rows == unit.encoded.num_rows
    seconds = seconds._replace(decode=time.perf_counter() - clock)
    return DecodedUnit(unit.label, seconds, found.table, pa.py_buffer(found.pixels))
