"""The stages of a run one after another in the driver's process: everything of a run but Ray, in a second."""

from collections.abc import Callable, Iterable, Iterator

import pyarrow as pa

from pipeline.decode.unit import decode_unit
from pipeline.stages import read as reading
from pipeline.stages.commit import commit
from pipeline.stages.config import StageConfig
from pipeline.stages.score import ScoreStage
from pipeline.state.commits import WorkItem


class InlineEngine:
    """As pipeline.stages.engine.RayEngine, for one process; images are decoded in it too, not in a child."""

    def __init__(self) -> None:
        self._scorer: ScoreStage | None = None
        reading.decode_in_child = lambda table, config, timeout_s: decode_unit(table, config)

    def start(self) -> None:
        pass

    def stream(self, items: list[WorkItem], config: StageConfig) -> Iterator[dict]:
        self._scorer = self._scorer or ScoreStage(config)
        for unit in reading.read_and_decode(pa.Table.from_pylist([vars(item) for item in items]), config):
            yield from commit(self._scorer(unit), config).to_pylist()

    def map(self, function: Callable, jobs: Iterable) -> Iterator:
        return map(function, jobs)
