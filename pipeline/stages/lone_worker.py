"""Takes one work unit after another through all stages in one process, without images that are left out of it."""

import contextlib
from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.input.unread import UnreadStore
from pipeline.stages.commit import commit_rows, commit_unit
from pipeline.stages.config import StageConfig
from pipeline.stages.place import Place
from pipeline.stages.read import EncodedUnit, decoded, read_unit
from schemas.envelope import DecodedUnit, ScoredUnit, UnitLabel, WorkItem
from schemas.footer import StageSeconds
from schemas.outcome import Outcome
from schemas.tally import WORKER_DIED


class Take(Enum):
    """How much of a unit is taken: all images but some, none of them after they were read, or none and nothing is read."""

    IMAGES = 1
    NO_IMAGE = 2
    NOTHING = 3


class LeftOut(NamedTuple):
    """Images that become errors without being decoded: their positions in the unit, and the message that says why."""

    take: Take = Take.IMAGES
    positions: tuple[int, ...] = ()
    message: str = ""


class Done(NamedTuple):
    """Outcomes so far, and what is left of the item; None where nothing is, or where storage did not answer."""

    outcomes: list[Outcome]
    rest: WorkItem | None


class LoneWorker:
    """All stages in one process, for a unit of which it is not known whether it ends its process.

    Args:
        stage: makes the second stage, ScoreStage.
        place: where it works; None where nobody counts what becomes of devices.
    """

    def __init__(
        self, config: StageConfig, stage: Callable[..., Callable[[pa.Table], pa.Table]], place: Place | None = None
    ) -> None:
        self._config, self._place = config, place
        self._holds = place is not None and not place.may_work()
        if not self._holds:
            self._score = stage(config) if place is None else stage(config, place)

    def rehearse(self) -> bool:
        """Whether it may work, which it may not on a device that is left out. Then it only holds the device, so that the next
        worker gets another.

        Scores a unit of one image that could not be read: computes what every unit does. There are no tiles without an
        image, so a model of tiles is only loaded, as the stage did when it was made.
        """
        if self._holds:
            return False
        size = self._config.scoring.decode
        if size.resize != "tile":
            failed = pa.table({"position": pa.array([0], pa.int32()), "error": ["rehearsal"]})
            pixels = pa.py_buffer(bytes(size.height * size.width * 3))
            with contextlib.nullcontext() if self._place is None else self._place.rehearsal():
                self._score(DecodedUnit(_REHEARSED, StageSeconds(), failed, pixels).table())
        return True

    def go_on(self, item: WorkItem, left_out: LeftOut) -> Done:
        """Read, score and commit the next part of an item."""
        outcomes: list[Outcome] = []
        store = UnreadStore(self._config.scoring.source.input_uri) if left_out.take is Take.NOTHING else None
        with contextlib.closing(read_unit(item, self._config, store)) as units:
            for unit in units:
                if isinstance(unit, Outcome):
                    outcomes.append(unit)
                    continue
                scored = self._scored(_without(unit, left_out))
                outcome = scored if isinstance(scored, Outcome) else commit_unit(scored, self._config)
                label = unit.label
                rest = None
                if label.next_offset is not None and outcome.message is None:
                    rest = WorkItem(label.number, label.next_offset, label.part + 1)
                return Done([*outcomes, outcome], rest)
        return Done(outcomes, None)

    def probe(self, item: WorkItem, first: int, end: int) -> int | None:
        """Do all that `go_on` does but the commit, with no more images than first <= position < end.

        Returns:
            The number of images in the part; None when storage did not deliver it.
        """
        with contextlib.closing(read_unit(item, self._config)) as units:
            for unit in units:
                if isinstance(unit, EncodedUnit):
                    count = unit.encoded.num_rows
                    others = tuple(each for each in range(count) if not first <= each < end)
                    scored = self._scored(_without(unit, LeftOut(positions=others)))
                    if isinstance(scored, ScoredUnit):
                        commit_rows(scored, self._config.scoring.decode)
                        return count
        return None

    def _scored(self, unit: EncodedUnit) -> ScoredUnit | Outcome:
        row = self._score(decoded(unit, self._config).table())
        return next(Outcome.all_in(row)) if Outcome.is_in(row) else ScoredUnit.of(row)


_REHEARSED = UnitLabel(0, 0, "", "none", None, 0, 0)


def _without(unit: EncodedUnit, left_out: LeftOut) -> EncodedUnit:
    """The unit with an error in place of the images left out; those that have one already keep it."""
    rows = unit.encoded
    positions = range(rows.num_rows) if left_out.take is Take.NO_IMAGE else left_out.positions
    chosen = pc.and_(pc.is_in(rows["position"], pa.array(positions, pa.int32())), pc.is_null(rows["error"]))
    said = {"encoded": None, "stage": "score", "error": WORKER_DIED, "message": left_out.message}
    columns = {field.name: rows[field.name] for field in rows.schema}
    for name, cell in said.items():
        columns[name] = pc.if_else(chosen, pa.scalar(cell, rows.schema.field(name).type), rows[name])
    return unit._replace(encoded=pa.table(columns, schema=rows.schema))
