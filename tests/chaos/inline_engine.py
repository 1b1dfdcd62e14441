"""Runs the stages one after another in the driver's process: a whole run without Ray, in a second."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from pipeline.decode.unit import decode_unit
from pipeline.stages import read as read_stage
from pipeline.stages.commit import commit
from pipeline.stages.config import StageConfig
from pipeline.stages.score import ScoreStage
from schemas.envelope import WorkItem, item_table
from schemas.outcome import Outcome


class InlineEngine:
    """Does what pipeline.stages.engine.RayEngine does, in one process; it decodes images there too, not in a child."""

    def __init__(self) -> None:
        self._scorer: ScoreStage | None = None
        read_stage.decode_in_child = lambda table, config, timeout_s: decode_unit(table, config)

    def start(self) -> None:
        pass

    def stream(self, items: Iterable[WorkItem], config: StageConfig) -> Iterator[Outcome]:
        self._scorer = self._scorer or ScoreStage(config)
        rest = iter(items)
        while handful := list(islice(rest, 8)):
            for unit in read_stage.read_and_decode(item_table(handful), config):
                yield from Outcome.all_in(commit(self._scorer(unit), config))

    def alone(self, items: Iterable[WorkItem], config: StageConfig) -> Iterator[Outcome]:
        raise AssertionError("nothing but a storage fault leaves a unit open here")

    def map(self, function: Callable, jobs: Iterable, memory_bytes: int = 0) -> Iterator:
        return map(function, jobs)
