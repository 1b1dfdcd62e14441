"""The commands of a history, each with settings and at objects that its seed chooses, and what others do to its output."""

import io
import random
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from kept_tables import KeptTables
from ledger_checks import check_archive_known
from made_calibrations import KINDS, SEEDS, SIZES, Made, made
from moved_clock import MovedClock
from oracle import Oracle
from path_keys import BY_DAY, BY_NONE
from places import Look, Place
from small_archive import SmallArchive
from stand_in import StandIn
from storage_faults import StorageFaults
from table_checks import Reader

from models.config import ArtifactConfig
from pipeline.input.config import SourceConfig
from pipeline.run import RunLimits, RunResult, ScoringRun, score_archive
from pipeline.state.entries import read_head
from pipeline.state.judges import Ruling
from pipeline.state.ledger import Ledger
from pipeline.state.promotion import Trained
from pipeline.state.publications import DataFile
from pipeline.state.tally import read_tally
from pipeline.state.unclosed import unclosed
from pipeline.tables.changes import commit_files
from pipeline.tables.clean import clean
from pipeline.tables.compaction import compact
from pipeline.tables.delta import open_table
from pipeline.tables.files import data_files
from pipeline.tables.held import HoldLimits
from pipeline.tables.publication import settled
from pipeline.tables.publish_slice import publish_slice
from pipeline.tables.rejudge import judge_anew
from pipeline.tables.rekey import begin, rekey

MODELS = ("castings", "plates")
PAIRS = ((MODELS[0], 0), (MODELS[0], 0), (MODELS[0], 1), (MODELS[1], 0))
"""Which model scores which archive."""
SETTINGS = {
    "rate": ("0.05", "0.1", "0.2", "0.29"),
    "max_unreadable": (0.05, 0.5, 1.0),
    "most_needed": (1, 3, 100, None),
    "review_budget": (1, 2, 4, None, None),
}
"""Of a rule."""


class Commands:
    """judged: models that get calibrations.  calibrated: that in the folder of each version of a model.
    in_force: models whose newest rules a command has brought to all rows.
    steps: what was done, for people.  disturbed: how often others were at work while a command paused.
    foreign_commits: of another program.
    """

    def __init__(
        self, seed: int, folder: Path, place: Place, faults: StorageFaults, clock: MovedClock, kept: KeptTables
    ) -> None:
        self.kept = kept
        self.kept.forget()
        faults.dropped.clear()
        self.random, self.faults, self.clock = random.Random(seed), faults, clock
        clock.moved = timedelta()
        self.folder, self.steps = folder, [f"seed {seed}"]
        self.place, self.output = place, place.uri
        self.named, self.days = self.random.random() < 0.4, self.random.random() < 0.7
        self.patterns: tuple[str, ...] = BY_DAY if self.days else self.random.choice(((), BY_NONE))
        self.judged = [model for model in MODELS if self.random.random() < 0.5]
        self.archives = [SmallArchive(folder / f"input-{number}", self.days) for number in range(2)]
        self.places = [[archive.uri] for archive in self.archives]
        self.engine = StandIn(self._scores)
        self.oracle = Oracle(self.output, self.engine.committed)
        self.digests: dict[str, int] = dict.fromkeys(MODELS, 0)
        self.calibrated: dict[tuple[str, str], Made] = {}
        self.scored: set[tuple[str, int]] = set()
        self.retried: set[str] = set()
        self.at_work = (MODELS[0], 0)
        self.in_force: set[str] = set()
        self.disturbed = self.foreign_commits = 0
        self.reader = Reader(clock)
        (folder / "model").mkdir()
        (folder / "model" / "weights").write_bytes(b"1")
        faults.archives, faults.wrote = self.archives, self._wrote

    def score(self) -> str:
        if self.faults.depth == 1 or self.random.random() < 0.3:
            self.at_work = self.random.choice(PAIRS)
        return self._score()

    def _score(self) -> str:
        model, number = self.at_work
        disturbed, archive = self.disturbed, self.archives[number]
        promotes = self.digests[model] and self.random.random() < (0.1 if self.faults.depth == 1 else 0.3)
        if promotes or not self.digests[model]:
            self.digests[model] += 1
        self.scored.add((model, number))  # also if it is killed: at the end its open slices are finished
        run = self.scoring_run(model, number)
        if run.retry_errors:
            self.retried.add(model)
        self.faults.note("promotion" if run.from_now_on else "score")
        result = score_archive(run, self.engine)
        self.in_force.add(model)
        if disturbed == self.disturbed:
            check_archive_known(Look(self.place), run.ledger, archive, run.source.identity_base)
        return f"{model} of {archive.root.name} {'with a new model ' if promotes else ''}{summary(result)}"

    def scoring_run(self, model: str, number: int, last: bool = False) -> ScoringRun:
        archive, digest = self.archives[number], f"{self.digests[model]:02d}" * 32
        with self.faults.command(None):
            head = read_head(Ledger(self.output, model))
        source = SourceConfig(
            input_uri=archive.uri,
            image_id="key" if self.named else "uri",
            input_name=f"input-{number}" if self.named else None,
            key_pattern=head.key_pattern if head.number else next(iter(self.patterns), None),
            id_column="name",
            date=None if self.days else self.random.choice((None, "2026-01-01", "2026-02-03")),
            unit_images=self.random.choice((2, 2, 3, 100)),
        )
        config = ArtifactConfig(name=model, batch_size=self.digests[model] + 1).model_dump(mode="json")
        limits = RunLimits(
            max_error_share=1.0 if last else self.random.choice((0.0, 0.3, 1.0)),
            min_errors=1,
            window_units=self.random.choice((3, 1000)),
            outage_s=0,
            accept_errors=last or self.random.random() < 0.3,
        )
        return ScoringRun(
            ledger=Ledger(self.output, model),
            trained=Trained(digest, config, self.folder / "model"),
            source=source,
            decode={},
            explain=None,
            cache_dir="",
            limits=limits,
            ruling=self._ruling(model, digest, 0.25),
            from_now_on=head.digest not in (None, digest),
            retry_errors=last or self.random.random() < 0.2,
        )

    def _ruling(self, model: str, digest: str, often: float) -> Ruling:
        """What a command says of verdicts: mostly what the last one said. often: how likely is another calibration, or rule."""
        if model not in self.judged:
            return Ruling(digest, None, self.folder / "model")
        if self.random.random() < often:
            kind, size, seed = self.random.choice(KINDS), self.random.choice(SIZES), self.random.randrange(SEEDS)
            self.calibrated[model, digest] = made(kind, size, seed, digest)
        settings: dict[str, Any] = {}
        if self.random.random() < often:
            some = self.random.sample(sorted(SETTINGS), self.random.choice((1, 1, 2)))
            settings = {name: self.random.choice(SETTINGS[name]) for name in some}
        found = self.calibrated.get((model, digest))
        if found is None:
            return Ruling(digest, None, self.folder / "model", settings, "somebody")
        return Ruling(digest, found.digest, found.folder(self.folder), settings, "somebody")

    def judge(self) -> str:
        """By another calibration, or rule; nothing is scored."""
        ledger = Ledger(self.output, self.random.choice(self.judged or MODELS))
        with self.faults.command(None):
            promoted = {each.digest for each in read_head(ledger).promotions}
        if not promoted:
            settled(self.output)
            return f"{ledger.model} has scored nothing"
        self.faults.note("judge")
        done = judge_anew(ledger, self._ruling(ledger.model, self.random.choice(sorted(promoted)), 0.7))
        self.in_force.add(ledger.model)
        return f"{ledger.model}: {'; '.join(done)}"

    def score_other(self) -> str:
        """With a model that is not the one at work."""
        self.at_work = self.random.choice([pair for pair in PAIRS if pair[0] != self.at_work[0]])
        return self._score()

    def change(self) -> str:
        number = self.at_work[1] if self.faults.depth else self.random.choice((0, 0, 1))
        archive = self.archives[number]
        done = [archive.change(self.random) for _ in range(self.random.choice((1, 1, 2, 4)))]
        if self.random.random() < 0.2:
            archive.day += 1
            self.archives[1 - number].day = archive.day
        if self.named and self.random.random() < 0.1:
            done.append(archive.move())
            self.places[number].append(archive.uri)
        self.steps.append(f"{'  ' * self.faults.depth}change {archive.root.name}: {', '.join(done)}")
        return ""

    def accept(self) -> str:
        """Publish held slices, in any order."""
        ledger, published = Ledger(self.output, self.random.choice(MODELS)), []
        waiting = unclosed(ledger, settled(self.output).closed(ledger.model))
        for number in self.random.sample(waiting, len(waiting)):
            if read_tally(ledger, number) is not None:
                late = number < settled(self.output).closed(ledger.model).through
                self.faults.met["accept", "late" if late else "in order"] += 1
                publish_slice(ledger, number, HoldLimits(accept=True))
                published.append(number)
                self.in_force.add(ledger.model)
        return f"{ledger.model} {published}"

    def compact(self) -> str:
        done = compact(Ledger(self.output, self.at_work[0]))
        if done:
            self.faults.note("compaction")
        return f"{done}"

    def clean(self) -> str:
        """After 100 days, unless somebody is at work: nothing that takes so long is waited for."""
        days = 100 if self.faults.depth == 1 and self.random.random() < 0.7 else self.random.choice((0, 2))
        if self.faults.depth == 1:
            self.kept.forget()
            self.place.pass_days(days)
        return f"after {days} days: {self._clean()}"

    def clean_late(self) -> str:
        """While somebody sleeps so long who has written data files, and has not named them in a manifest."""
        self.faults.note("late clean")
        self.kept.forget()
        self.place.pass_days(100)
        return f"after 100 days: {self._clean()}"

    def _clean(self) -> dict[str, int]:
        try:
            return clean(self.output)
        finally:
            self.kept.forget()

    def rekey(self, all_of: str | None = None) -> str | None:
        """Columns by another pattern, or the end of that; None where it is refused, since the model has no ledger yet."""
        ledger = Ledger(self.output, all_of or self.random.choice(sorted({model for model, _ in self.scored})))
        with self.faults.command(None):
            exists = read_head(ledger).number
        if not exists:
            return None
        begun = bool(self.patterns and not all_of) and begin(ledger, self.random.choice(self.patterns))
        self.in_force.add(ledger.model)
        return f"{ledger.model} {begun} {rekey(ledger)}"

    def optimise(self) -> str:
        """Another program merges the files of a partition."""
        name = self.random.choice(("scores", "scores", "errors", "maps", "lots"))
        table = open_table(self.output, name)
        files = data_files(table)
        if table is not None and files:
            partition = self.random.choice(files).partition
            here = tuple(file for file in files if file.partition == partition)
            if self.random.random() < 0.5:
                here = (self.random.choice(here),)
            merged = self._merged(name, here)
            commit_files(table, (merged,), here, None)
            self.faults.note("foreign")
            self.foreign_commits += 1
            self.steps.append(f"{'  ' * self.faults.depth}foreign optimize of {name}: {len(here)} files")
        return ""

    def _merged(self, name: str, files: tuple[DataFile, ...]) -> DataFile:
        bodies = [io.BytesIO(self.place.read(f"{name}/{file.path}")) for file in files]
        rows = pa.concat_tables([pq.ParquetFile(body).read() for body in bodies], promote_options="permissive")
        path = Path(files[0].path).with_name(f"part-{self.random.getrandbits(64):016x}.parquet")
        pq.write_table(rows, sink := io.BytesIO())
        self.place.write(f"{name}/{path}", sink.getvalue())
        return DataFile(str(path), len(sink.getvalue()), files[0].partition)

    def _wrote(self, key: str) -> None:
        if key in self.faults.dropped:
            at = self.faults.running.at
            assert at, f"{key} is written by a command that did not pause while its slice was published and cleaned"
        elif "/commits/" in key:
            self.engine.has_written(key)
        elif "/publications/" in key:
            self.faults.running.manifests.append(int(key[-11:-5]))

    def _scores(self, key: str) -> None:
        """The parts of a tar are read in order: what lies behind a part whose put had failed is scored again with it."""
        running, before = self.faults.running, f"{key[:-14]}{int(key[-14:-8]) - 1:06d}.parquet"
        follows = running.scored[-1:] == [before] and before not in running.again
        running.scored.append(key)
        if key in self.engine.committed and not follows:
            running.again.append(key)


def summary(result: RunResult) -> str:
    return f"published {list(result.published)} open {result.open} held {list(result.held)}"
