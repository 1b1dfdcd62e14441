"""Scores work units whose workers died, each alone on a worker, and finds by bisecting the images that end it.

Ray's stream has already tried such a unit several times, beside others. Here one worker has one unit at a time, so that its end
can be put down to that unit. An image is blamed only when it alone, with the others of its unit left out, ends the worker
TRIES times; whatever else dies once more is taken apart or said to be the fault of the machine. Nothing is tried for ever.
"""

import contextlib
import itertools
import logging
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, Self, TypeVar

import ray
from ray.exceptions import OutOfMemoryError, RayError, RayTaskError

from pipeline.stages.cluster import Resources
from pipeline.stages.config import StageConfig
from pipeline.stages.devices import Devices
from pipeline.stages.faults import LOOK, WorkersDie
from pipeline.stages.lone_worker import Done, LeftOut, LoneWorker, Take
from pipeline.stages.score import ScoreStage
from pipeline.state import slices
from pipeline.state.commits import committed_since, pending
from schemas.envelope import WorkItem
from schemas.outcome import Outcome

TRIES = 3

log = logging.getLogger(__name__)

Answer = TypeVar("Answer")


class _Died(Exception):
    """The worker ended before it answered."""


def score_alone(
    items: Iterable[WorkItem], config: StageConfig, resources: Resources, devices: Devices | None = None
) -> Generator[Outcome, None, None]:
    """The outcomes of all parts of the items; an image that ends its worker is committed as an error.

    Raises:
        WorkersDie: workers end before they have been given a unit.  DevicesFail: no device is left.
    """
    with _Worker(config, resources, devices) as worker:
        worker.start()
        for item in items:
            yield from _score(worker, item, config)


def _score(worker: "_Worker", item: WorkItem, config: StageConfig) -> Iterator[Outcome]:
    """Part by part, with less of a part after each death in it."""
    rest: WorkItem | None = item
    left_out: LeftOut = LeftOut()
    less: Iterator[LeftOut] = iter(())
    while rest is not None:
        try:
            done = worker.go_on(rest, left_out)
        except _Died as died:
            done = _since(rest, config)
            if done.rest == rest:  # otherwise it died after the commit
                if left_out == LeftOut():
                    less = _less(worker, rest, str(died))
                if (next_try := next(less, None)) is None:
                    message = f"its worker ends even without the unit's images: {died}"
                    done = Done([Outcome(rest.number, rest.part, message=message)], None)
                else:
                    left_out = next_try
        yield from done.outcomes
        if done.rest != rest:
            left_out = LeftOut()
        rest = done.rest


def _less(worker: "_Worker", item: WorkItem, how: str) -> Iterator[LeftOut]:
    """What to leave out of a part that ended its worker: first the images that do it alone, then all, then reading as well."""
    unit = f"{worker.slice}: work unit {item.number}"
    try:
        count = worker.probe(item, 0, 0, TRIES)
    except _Died:
        log.warning("%s: reading it ends its worker (%s); all its images become errors", unit, how)
        yield LeftOut(Take.NOTHING)
        return
    found = tuple(_culprits(worker, item, 0, count or 0))
    log.warning("%s ended its worker (%s): %d of its %d images do it alone", unit, how, len(found), count or 0)
    alone = f"scoring this image alone ended its worker {TRIES} times ({how}); others of its unit were scored"
    yield LeftOut(Take.IMAGES, found, alone)
    yield LeftOut(Take.NO_IMAGE, message=f"images of its unit ended their worker together ({how}); none was scored")
    yield LeftOut(Take.NOTHING)


def _culprits(worker: "_Worker", item: WorkItem, first: int, end: int) -> Iterator[int]:
    """The positions first <= position < end of the images that end a worker alone; together they have ended one."""
    middle = (first + end) // 2
    for start, stop in ((first, middle), (middle, end)):
        try:
            if start < stop:
                worker.probe(item, start, stop, TRIES if stop - start == 1 else 1)
        except _Died:
            if stop - start == 1:
                yield start
            else:
                yield from _culprits(worker, item, start, stop)


def _since(item: WorkItem, config: StageConfig) -> Done:
    """What was committed of an item since it was given to a worker that died."""
    found = [
        Outcome(item.number, footer.part, footer.scored, footer.errors)
        for footer in committed_since(config.ledger, config.slice, item)
    ]
    units = slices.outlines(config.ledger, config.slice, item.number, item.number + 1)
    return Done(found, next(pending(config.ledger, config.slice, units), None))


class _Worker:
    """An actor that is made anew when it has died; a context manager that ends it.

    Every actor rehearses first, so that what ends it afterwards is the doing of what it was given. Actors on devices that are
    left out stay until the end and hold these.
    """

    def __init__(self, config: StageConfig, resources: Resources, devices: Devices | None) -> None:
        self._config, self._devices = config, devices
        self.slice = config.ledger.slice_name(config.slice)
        self._place = None if devices is None else devices.begin(0)
        self._made = itertools.count()
        self._holding: list[Any] = []
        self._class = ray.remote(LoneWorker).options(
            num_cpus=resources.scorer_cpus, num_gpus=resources.scorer_gpus or None, max_restarts=0, max_task_retries=0
        )
        self._actor: Any = None
        self._name = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for actor in self._holding if self._actor is None else [*self._holding, self._actor]:
            _end(actor)

    def start(self) -> None:
        """Have an actor that has rehearsed."""
        tries = 0
        while self._actor is None:
            self._name = f"alone-{next(self._made)}"
            place = None if self._place is None else self._place.named(self._name)
            actor: Any = self._class.remote(self._config, ScoreStage, place)
            try:
                if ray.get(actor.rehearse.remote()):
                    self._actor = actor
                elif self._devices is not None:
                    self._holding.append(actor)
                    self._devices.check_left(len(self._holding))
            except RayTaskError as error:
                raise error.cause from error
            except RayError as error:
                _end(actor)
                tries += not self._devices_fault()  # a device has tries of its own
                if tries == TRIES:
                    died = f"{TRIES} did not: {how(error)}"
                    raise WorkersDie(f"a worker must survive the scoring of an image of zeros; {died}. {LOOK}") from error

    def _devices_fault(self) -> bool:
        """Whether the device is at fault that the newest actor ended. Call it once for each."""
        return self._devices is not None and self._devices.blamed(self._name)

    def go_on(self, item: WorkItem, left_out: LeftOut) -> Done:
        return self._ask(1, lambda actor: actor.go_on.remote(item, left_out))

    def probe(self, item: WorkItem, first: int, end: int, tries: int) -> int | None:
        """As LoneWorker.probe, up to so many times. Raises _Died when each of them ended the worker."""
        return self._ask(tries, lambda actor: actor.probe.remote(item, first, end))

    def _ask(self, tries: int, call: Callable[[Any], "ray.ObjectRef[Answer]"]) -> Answer:
        died, deaths = "", 0
        while deaths < tries:
            self.start()
            try:
                return ray.get(call(self._actor))
            except RayTaskError as error:
                raise error.cause from error
            except RayError as error:
                died = how(error)
                _end(self._actor)
                self._actor = None
                # What its device did says nothing of the images. It is counted in a row there, so another device comes soon.
                deaths += not self._devices_fault()
        raise _Died(died)


def _end(actor: Any) -> None:
    with contextlib.suppress(RayError):
        ray.kill(actor)


def how(error: RayError) -> str:
    """How a worker ended, in a few words; Ray's own text has a page."""
    if isinstance(error, OutOfMemoryError):
        return "Ray ended it because its node ran out of memory"
    return f"its process ended ({type(error).__name__})"
