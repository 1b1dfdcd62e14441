"""A seeded history of commands over one output, with faults, checked after each command."""

import functools
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from commands import MODELS, Commands, summary
from covered import covered
from fault_kinds import CLEANING, HOWS, JUDGING, PUBLISHING, SCORING, Fault, Killed, Running
from kept_tables import KeptTables
from ledger_checks import check_fold, check_key_columns, check_only_referenced, check_plans
from moved_clock import MovedClock
from places import Look, Place
from storage_faults import StorageFaults
from table_checks import (
    check_complete,
    check_current,
    check_foreign,
    check_in_force,
    check_sealed,
    expected_scores,
    settled_already,
)

from pipeline.run import EmptyInput, score_archive
from pipeline.state.entries import OtherKeys, read_head
from pipeline.state.lease import LeaseHeld, LeaseLost
from pipeline.state.ledger import Ledger
from pipeline.state.promotion import OtherModel
from pipeline.state.unclosed import unclosed
from pipeline.storage.objects import StorageError
from pipeline.tables.held import HoldLimits
from pipeline.tables.publication import settled
from pipeline.tables.publish_slice import publish_slice
from pipeline.tables.query import open_tables
from pipeline.tables.rekey import SlicesWait

ENDED = (StorageError, LeaseHeld, LeaseLost, OtherModel, OtherKeys)
ALWAYS = (EmptyInput, SlicesWait)
"""How a command may end that met a fault or others at work, and how one may that met none."""


class History(Commands):
    """One seed. hostile: every step meets a kill, a pause or a fault.  struck: whether it did, for each step.
    most: steps.
    """

    def __init__(
        self,
        seed: int,
        folder: Path,
        place: Place,
        faults: StorageFaults,
        clock: MovedClock,
        kept: KeptTables,
        most: int = 40,
    ) -> None:
        super().__init__(seed, folder, place, faults, clock, kept)
        self._most = most
        self.hostile, self.struck = seed % 20 < 12, list[bool]()

    def run(self) -> None:
        for archive in self.archives:
            for _ in range(self.random.randint(2, 8)):
                archive.change(self.random)
        self.hostile_step(self.score) if self.hostile else self.step(self.score, None)
        for _ in range(10 + min(self.random.randint(0, self._most - 10) for _ in range(3 if self.hostile else 2))):
            self.one_step()
        self.end()

    def hostile_step(self, deed: Callable[[], object]) -> None:
        """A command that meets a kill, a pause or a fault; when it ends before that came, the next one meets a sure one."""
        running = self.step(deed, self.at_put() if deed == self.score and self.random.random() < 0.5 else self.fault(deed))
        if not running.at:
            how = self.random.choice(HOWS)
            running = self.step(self.score, Fault(how, self.random.randrange(3), None, lambda: self.meanwhile(*self._some())))
        self.struck.append(running.at is not None)

    def one_step(self) -> None:
        quiet, judging = (self.change, self.optimise, self.check_readers), 2 if self.judged else 0
        commands = (self.score, self.accept, self.compact, self.clean, self.rekey, self.judge)
        deed = self.random.choices((*quiet, *commands), (5, 1, 1, 8, 1.5, 1.5, 1, 0.7, judging))[0]
        if self.hostile:
            if deed in quiet:
                deed()
                deed = self.score
            elif deed == self.score:
                self.change()
            self.hostile_step(deed)
        elif deed in quiet:
            deed()
        else:
            if deed == self.score and self.random.random() < 0.8:
                self.change()
                self.step(deed, self.at_put() if self.random.random() < 0.5 else self.fault(deed))
            else:
                self.step(deed, self.fault(deed) if self.random.random() < 0.5 else None)

    def fault(self, deed: Callable[[], object]) -> Fault:
        if deed != self.clean and self.random.random() < 0.35:
            several = (self.race, self.zombie, self.foreign, self.foreign_early, self.sleeper, self.rival)
            return self.random.choice((*several, self.overruled, self.overruled) if self.judged else several)()
        how = self.random.choice(HOWS)
        likely = {self.score: SCORING, self.clean: CLEANING, self.judge: JUDGING}.get(deed, PUBLISHING)
        target = self.random.choice(likely) if self.random.random() < 0.6 else None
        most = 300 if deed == self.score else 40
        first = (0,) if deed == self.judge else (0, 0, 0, 1, 2, 3)
        nth = self.random.choice(first) if target else int(most ** self.random.random())
        return Fault(how, nth, target, lambda: self.meanwhile(*self._some()))

    def at_put(self) -> Fault:
        """A kill beside a put that decides something, or its lost answer."""
        target = self.random.choice(("manifest", "seal", "entry", "commit", "tally", "delta"))
        return Fault(self.random.choice(("kill before", "kill after", "lost")), self.random.choice((0, 0, 1)), target)

    def race(self) -> Fault:
        """Two drivers plan at once, by listings of which one is older."""
        return Fault("pause after", 0, "listing", lambda: self.meanwhile(self.change, self.score))

    def zombie(self) -> Fault:
        """A driver wakes after others have published and compacted."""
        target = self.random.choice(("manifest", "data", "commit", "seal", "delta"))
        nth = self.random.choice((0, 0, 1))
        return Fault("pause before", nth, target, lambda: self.meanwhile(self.change, self.score, self.compact))

    def foreign(self) -> Fault:
        """Another program merges files while a publication is under way."""
        target, nth = self.random.choice(("manifest", "delta", "delta", "seal")), self.random.choice((0, 0, 1, 2, 3))
        return Fault("pause before", nth, target, lambda: self.meanwhile(self.optimise, self.optimise))

    def foreign_early(self) -> Fault:
        """It does so before the publication's manifest is put."""
        meanwhile = functools.partial(self.meanwhile, self.optimise, self.optimise)
        return Fault("pause after", self.random.choice((0, 0, 1, 2, 3)), "data", meanwhile, decides_anew=True)

    def rival(self) -> Fault:
        """Another ledger publishes between the data files of a publication and its manifest."""
        target, nth = self.random.choice(("data", "data", "row")), self.random.choice((0, 0, 1))
        return Fault("pause after", nth, target, lambda: self.meanwhile(self.change, self.score_other))

    def overruled(self) -> Fault:
        """Another rule is decided while rows that are judged by the one before are on their way."""
        target, nth = self.random.choice(("data", "row", "manifest", "delta", "seal")), self.random.choice((0, 0, 1))
        return Fault("pause before", nth, target, lambda: self.meanwhile(self.judge))

    def sleeper(self) -> Fault:
        """A publisher wakes after its data files were deleted."""
        return Fault("pause after", self.random.choice((0, 0, 1, 2)), "data", lambda: self.meanwhile(self.clean_late))

    def _some(self) -> list[Callable[[], object]]:
        others = (self.score, self.score, self.accept, self.compact, self.clean, self.rekey, self.judge)
        deeds = (self.change, self.check_readers, self.optimise, *others)
        return self.random.choices(deeds, k=self.random.choice((1, 1, 2, 3)))

    def meanwhile(self, *deeds: Callable[[], object]) -> None:
        """What others do while a command pauses."""
        self.disturbed += 1
        for deed in (self.check_readers, *deeds):
            if deed in (self.change, self.optimise, self.check_readers):
                with self.faults.command(None):
                    deed()
            else:
                again = self.faults.depth < 3 and self.random.random() < 0.3
                self.step(deed, self.fault(deed) if again else None)

    def step(self, command: Callable[[], object], fault: Fault | None) -> Running:
        """One command with its fault; then the checks."""
        at, depth, disturbed, foreign = len(self.steps), self.faults.depth, self.disturbed, self.foreign_commits
        committed = set(self.engine.committed)
        self.in_force.clear()
        with self.faults.command(None):
            published = self.oracle.publications.manifests.newest()
        self.steps.append("")
        self.clock.moved += timedelta(hours=0 if depth else 2)
        with self.faults.command(fault) as running:
            try:
                found = command()
                done, said = found is not None, f"{found}"
            except (Killed, *ENDED, *ALWAYS) as error:
                done, said = False, f"{type(error).__name__} {error}"
                expected = running.at or depth or isinstance(error, ALWAYS) or disturbed != self.disturbed
                assert expected, f"a command without a fault ended: {error!r}"
        if command == self.judge and running.at:
            self.faults.met["judge struck", running.at] += 1
        self.steps[at] = f"{'  ' * depth}{command.__name__} {said} [{f'{fault} at {running.at}' if fault else ''}]"
        with self.faults.command(None):
            look = Look(self.place)
            check_foreign(look, self.oracle)
            self.reader.check(look)
            for model in MODELS:
                check_plans(look, Ledger(self.output, model), model in self.retried)
            whole = done and (disturbed == self.disturbed or settled_already(look))
            if not whole or depth:
                check_sealed(look, self.oracle)
            if whole:
                check_complete(look, self.oracle)
                if disturbed == self.disturbed:
                    check_in_force(look, self.in_force)
                for model in MODELS if not depth else ():
                    check_fold(look, Ledger(self.output, model))
            again = committed.intersection(running.again) if disturbed != self.disturbed else running.again
            assert not again, f"scored again: {sorted(again)}"
            harmless = fault is None or not running.at or fault.how in ("pause before", "pause after", "lost")
            if done and harmless and foreign == self.foreign_commits:
                self._check_files_written_once(running, published)
        return running

    def check_readers(self) -> str:
        look = Look(self.place)
        check_sealed(look, self.oracle)
        check_foreign(look, self.oracle)
        return ""

    def end(self) -> None:
        """One last command of each kind without faults: then the tables hold the archive as it is."""
        for archive in self.archives:
            archive.mend_all()
        self.retried.update(MODELS)
        for model, number in sorted(self.scored):

            def score(model: str = model, number: int = number) -> str:
                return summary(score_archive(self.scoring_run(model, number, last=True), self.engine))

            self.step(score, None)
        for model in sorted({model for model, _ in self.scored}):
            if unclosed(ledger := Ledger(self.output, model), settled(self.output).closed(model)):
                self.step(lambda ledger=ledger: self._accept_all(ledger), None)
        for model, number in sorted(self.scored):
            check_current(Look(self.place), model, self.archives[number], self.places[number])
        for model in sorted({model for model, _ in self.scored}):
            if read_head(Ledger(self.output, model)).rekeyed:
                self.step(lambda model=model: self.rekey(model), None)
            check_key_columns(Look(self.place), Ledger(self.output, model))
        self.step(self.compact, None)
        self.kept.forget()
        self.place.pass_days(101)
        self.step(self._clean, None)
        check_only_referenced(Look(self.place), sorted({model for model, _ in self.scored}))
        if self.scored:
            self._check_views()
        self.faults.met.update(covered(self.oracle, settled(self.output).number))

    def _accept_all(self, ledger: Ledger) -> str:
        for number in unclosed(ledger, settled(self.output).closed(ledger.model)):
            publish_slice(ledger, number, HoldLimits(accept=True))
        return ledger.model

    def _check_views(self) -> None:
        tables, state = open_tables(self.output), self.oracle.after(settled(self.output).number)
        scores = expected_scores(state)
        with tables.answer("select count(*), (select count(*) from maps) from scores") as answer:
            assert answer.fetchall() == [(len(scores), len(scores))]

    def _check_files_written_once(self, running: Running, published: int) -> None:
        """A command writes no data file that no publication needs, but partitions that it lost to its own ledger, and the row
        of `runs`, which holds the number that another ledger may have taken meanwhile.

        published: publications before it.
        """
        manifests = [self.oracle.manifest(number) for number in self.oracle.publications.manifests.after(0)]
        lost = {manifest.model for manifest in manifests[published:] if manifest.number not in running.manifests}
        named = {f"{name}/{file.path}" for each in manifests for name, made in each.changes.items() for file in made.add}
        vain = [key for key in running.written if key.endswith(".parquet") and key not in named and not key.startswith("runs/")]
        assert not [key for key in vain if key.split("/")[1].removeprefix("model=") not in lost], f"written in vain: {vain}"
