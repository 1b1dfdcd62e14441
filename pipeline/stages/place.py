"""A scorer's side of what becomes of failing devices: it asks before it uses its device, and ends its process with a line."""

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from typing import Any, NoReturn

from pipeline.scoring.faults import DeviceFault, WrongDevice
from pipeline.scoring.watchdog import Watchdog
from pipeline.stages.device_counts import NO_STREAM, Go, GpuPlace, Part, Stream, Told
from pipeline.stages.faults import SetAside
from schemas.envelope import UnitLabel

EXIT_STATUS = 17
"""Of a scorer's process whose device failed."""

ASK_AGAIN_S = 2.0
LAST_WORDS_S = 10.0

TELL_EVERY_S = 1.0
"""At most so often a scorer says that it has finished units."""


class Place:
    """Where a scorer works. It is made by the driver and used in the scorer's process.

    Args:
        counts: handle of the actor `DeviceCounts`; None where scorers hold no GPU, and nobody counts.
        stream: what the scorer belongs to.
        name: of the scorer; without one, Ray's id of its actor, which stays when Ray starts the actor again.
    """

    def __init__(self, counts: Any = None, stream: Stream = NO_STREAM, name: str = "") -> None:
        self._counts, self._stream, self._name = counts, stream, name
        self._told = Told(Go.WORK)
        self._inside: set[Part] = set()
        self._rehearses = self._untold = self._ending = False
        self._told_at = 0.0
        self._gpu: GpuPlace | None = None
        self.watch: Watchdog | None = None

    def named(self, name: str) -> "Place":
        """The same for a scorer of this name."""
        return Place(self._counts, self._stream, name)

    def may_work(self) -> bool:
        """Whether this process may use its device. It is not to wait: another takes its part."""
        return self._ask().go is Go.WORK

    def begin(self) -> None:
        """Returns when this process may take units. On a device that is left out it waits while others work, or ends for good
        where it owns units. It ends, and comes again, where it has the place of one that owns units."""
        while (told := self._ask()).go is Go.WAIT:
            time.sleep(ASK_AGAIN_S)
        if told.go is Go.YIELD:
            os._exit(EXIT_STATUS)
        if told.go is Go.END:
            self._end_for_good()
        self._told = told
        if self._counts is not None:
            self.watch = Watchdog(self.end)

    @property
    def refuses(self) -> str | None:
        """Why no device is left, if this scorer is to say so."""
        return self._told.message or None

    def ready(self) -> None:
        """Say that the model is loaded. An end without a word counts against the device only before."""
        if self._counts is not None:
            import ray

            ray.get(self._counts.ready.remote(self._scorer()))

    @contextlib.contextmanager
    def rehearsal(self) -> Iterator[None]:
        """What is scored in the block is no work: it says nothing for a device that fails at units."""
        self._rehearses = True
        try:
            yield
        finally:
            self._rehearses = False

    @contextlib.contextmanager
    def unit(self, label: UnitLabel) -> Iterator[None]:
        """A unit is in this process. The process ends in the block if its device fails.

        Raises:
            SetAside: the unit is not tried here; it stays without an outcome, and is scored alone.
        """
        part = (label.number, label.part)
        if part in self._told.aside:
            raise SetAside(f"unit {label.number}, part {label.part} was there when its device failed twice in a row")
        self._inside.add(part)
        try:
            with self.device():
                yield
        finally:
            self._inside.discard(part)
        if not self._rehearses:
            self._tell()

    @contextlib.contextmanager
    def device(self) -> Iterator[None]:
        """The process ends in the block if its device fails; also if the device is gone that it had before."""
        try:
            yield
        except DeviceFault as fault:
            self.end(str(fault))
        except WrongDevice as error:
            if not self._told.again:
                raise
            self.end(str(error))

    def end(self, why: str) -> NoReturn:
        """Print one line, say it to the driver, and end this process. Ray starts another, if it is an actor of a pool."""
        if self._ending:  # two units meet the same fault, each in a thread; the first one ends the process meanwhile
            time.sleep(2 * LAST_WORDS_S)
            os._exit(EXIT_STATUS)
        self._ending = True
        try:
            where = "" if self._counts is None else f"{self._gpu}: "
            print(f"{where}{why}; this process ends", file=sys.stderr, flush=True)
            if self._counts is not None:
                import ray

                said = (self._scorer(), self._gpu, why, self._untold, tuple(self._inside))
                ray.get(self._counts.failed.remote(*said), timeout=LAST_WORDS_S)
        finally:  # whatever cannot be said: another scorer gets the units
            os._exit(EXIT_STATUS)

    def _end_for_good(self) -> NoReturn:
        """Ray does not start this scorer again, and its units are lost here; one that Ray does start again is told the same."""
        try:
            import ray

            ray.kill(ray.get_runtime_context().current_actor)
            time.sleep(LAST_WORDS_S)  # it ends in here
        finally:
            os._exit(EXIT_STATUS)

    def _tell(self) -> None:
        """Say, without waiting, that a unit is finished: other scorers of this device may have failed before."""
        self._untold = True
        now = time.monotonic()
        if self._counts is not None and now >= self._told_at + TELL_EVERY_S:
            self._told_at, self._untold = now, False
            self._counts.finished.remote(self._gpu)

    def _ask(self) -> Told:
        if self._counts is None:
            return Told(Go.WORK)
        import ray

        context = ray.get_runtime_context()
        actor = None if self._name else context.current_actor
        gpus = context.get_accelerator_ids().get("GPU", [])
        self._gpu = GpuPlace(context.get_node_id(), ray.util.get_node_ip_address(), tuple(gpus))
        return ray.get(self._counts.ask.remote(self._stream, self._scorer(), context.get_worker_id(), self._gpu, actor))

    def _scorer(self) -> str:
        import ray

        return self._name or str(ray.get_runtime_context().get_actor_id())
