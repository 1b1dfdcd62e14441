"""One experiment: it harms a run, repeats the command, and checks that the result is that of an unharmed run."""

import os
from dataclasses import dataclass, field
from pathlib import Path

import chaos_archive
from driver import Driver, prepare
from fault_proxy import Fault, FaultProxy, Request
from points import Point

from pipeline.state import slices
from pipeline.state.commits import pending
from pipeline.state.entries import Slice, read_entry
from pipeline.state.ledger import Ledger, ledgers
from pipeline.storage.store import Store, open_store

SCENARIOS = ("first", "later")
FORESEEN = {0, 2, 5, -9}
"""The allowed exit codes of a harmed driver: done, refused, partial, killed. 1 is a traceback, which is never allowed."""


@dataclass
class Outcome:
    """The observations of one experiment; `faults` is empty if everything is right."""

    exits: list[int] = field(default_factory=list)
    struck: int = 0
    requests: list[int] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Whole:
    """An uninterrupted run: its requests and the rows that it published."""

    requests: list[Request]
    rows: dict[str, list[tuple]]


class Laboratory:
    """Archives on the S3 server, a model, and the results of uninterrupted runs.

    Scenario `first` scores an archive into an empty output. Scenario `later` scores additions and changes to the archive,
    into a copy of the output that an earlier run left.
    """

    def __init__(self, proxy: FaultProxy, bucket: str, model: str, folder: Path) -> None:
        self.proxy, self.bucket, self.model, self.folder = proxy, bucket, model, folder
        self.environment = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
        self.environment["AWS_ENDPOINT_URL"] = proxy.url
        prepare()
        for scenario in SCENARIOS:
            chaos_archive.fill(open_store(f"{bucket}/in-{scenario}"))
        self._must_end_well("later", f"{bucket}/before")
        self._before = {
            entry.key: open_store(f"{bucket}/before").get(entry.key) for entry in open_store(f"{bucket}/before").list()
        }
        self.before = {table: len(rows) for table, rows in chaos_archive.published(f"{bucket}/before").items()}
        chaos_archive.add(open_store(f"{bucket}/in-later"))
        self.whole = {scenario: self._uninterrupted(scenario) for scenario in SCENARIOS}
        found = {scenario: [len(whole.rows[name]) for name in ("scores", "errors")] for scenario, whole in self.whole.items()}
        first = [chaos_archive.IMAGES - chaos_archive.BAD, chaos_archive.BAD]
        later = [chaos_archive.IMAGES_LATER - chaos_archive.BAD_LATER, chaos_archive.BAD_LATER]
        assert found == {"first": first, "later": later}, found
        assert all(whole.rows["regions"] for whole in self.whole.values())

    def experiment(self, output: str, point: Point) -> Outcome:
        """Do the experiment and report what it shows; the output comes from `new_output`."""
        outcome = Outcome()
        commands = [point.fault, *([point.then] if point.then else []), None]
        finished: dict[str, int] = {}
        for fault in commands:
            code, requests, log = self.run(point.scenario, output, fault)
            outcome.exits.append(code)
            outcome.requests.append(len(requests))
            outcome.struck += self.proxy.struck if fault else 0
            if code not in (FORESEEN if fault else {0}):
                outcome.faults.append(f"exit {code} of command {len(outcome.exits)}:\n{log[-3000:]}")
            reads = [request for request in requests if self._reads(request, point.scenario, finished)]
            outcome.faults += [f"read again: {r.method} {r.key} {r.range}" for r in reads]
            outcome.faults += self._read_after_commit(point.scenario, output, requests)
            finished = self._finished(point.scenario, output)
        if outcome.exits[-1] == 0:
            outcome.faults += self.wrong(point.scenario, output)
        return outcome

    def wrong(self, scenario: str, output: str) -> list[str]:
        """How the published rows differ from an uninterrupted run's, one sentence per table."""
        return differences(chaos_archive.published(output), self.whole[scenario].rows)

    def run(self, scenario: str, output: str, fault: Fault | None) -> tuple[int, list[Request], str]:
        """Exit code, the requests, and what was printed."""
        driver: list[Driver] = []
        self.proxy.arm(fault, harm=lambda: driver[0].kill())
        driver.append(self.start(scenario, output, output.rpartition("/")[2]))
        code = driver[0].wait()
        return code, self.proxy.passed, driver[0].log.read_text()

    def start(self, scenario: str, output: str, log: str, host: str | None = None) -> Driver:
        """A driver that has started; it takes `host` for its machine's name."""
        path = self.folder / f"{log}.log"
        path.unlink(missing_ok=True)
        settings = chaos_archive.settings(self.model, f"{self.bucket}/in-{scenario}", output)
        return Driver(settings, self.environment, path, host)

    def new_output(self, scenario: str, name: str) -> str:
        """The output that the scenario starts from: an empty one, or one that the earlier run left."""
        output = f"{self.bucket}/{name}"
        if scenario == "later":
            store: Store = open_store(output)
            for key, body in self._before.items():
                store.put(key, body)
        return output

    def forget(self, output: str) -> None:
        """Delete an output: the S3 server has its objects in memory."""
        store = open_store(output)
        for entry in list(store.list()):
            store.delete(entry.key)

    def _uninterrupted(self, scenario: str) -> Whole:
        output = self.new_output(scenario, f"whole-{scenario}")
        requests = self._must_end_well(scenario, output)
        return Whole(requests, chaos_archive.published(output))

    def _must_end_well(self, scenario: str, output: str) -> list[Request]:
        code, requests, log = self.run(scenario, output, None)
        assert code == 0, log
        return requests

    def _finished(self, scenario: str, output: str) -> dict[str, int]:
        """Objects of the input that must not be read again below the given byte. That is the whole object if all of its
        units are committed, or the start of a tar up to its next part. Objects that were replaced since may be read."""
        now = {entry.key: entry.etag for entry in open_store(f"{self.bucket}/in-{scenario}").list()}
        found: dict[str, int] = {}
        for ledger, number in sealed(output):
            units = list(slices.units(ledger, number))
            left = {item.number: item for item in pending(ledger, number, slices.outlines(ledger, number))}
            planned = [(unit, entry) for unit in units for entry in unit.objects]
            current = [(unit, entry) for unit, entry in planned if now[entry.key] == entry.etag]
            for unit, entry in current:
                if unit.number not in left:
                    found[entry.key] = entry.size
            for unit, entry in current:
                if unit.number in left:
                    streams = unit.images is None and not entry.key.endswith(".gz")
                    found[entry.key] = left[unit.number].offset if streams else 0
        return found

    def _reads(self, request: Request, scenario: str, finished: dict[str, int]) -> bool:
        prefix = f"{self.bucket.removeprefix('s3://')}/in-{scenario}/"
        until = finished.get(request.key.removeprefix(prefix), 0)
        if request.method != "GET" or request.listing or not request.key.startswith(prefix) or not until:
            return False
        start = request.range.removeprefix("bytes=").partition("-")[0]
        return not start.isdigit() or int(start) < until

    def _read_after_commit(self, scenario: str, output: str, requests: list[Request]) -> list[str]:
        """Reads of loose images after the commit of their unit."""
        commits = {r.key: r.number for r in requests if "/commits/" in r.key and r.method == "PUT" and r.done}
        found = []
        for ledger, number in sealed(output):
            for unit in slices.units(ledger, number):
                key = f"{output.removeprefix('s3://')}/{ledger.commit_key(number, unit.number, 0)}"
                if unit.source == "files" and key in commits:
                    ends = {entry.key: entry.size for entry in unit.objects}
                    late = [r for r in requests if r.number > commits[key] and self._reads(r, scenario, ends)]
                    found += [f"read after its commit: {r.key}" for r in late]
        return found


def sealed(output: str) -> list[tuple[Ledger, int]]:
    """Every slice that was ever planned into an output, in the order of planning."""
    return [
        (ledger, number)
        for ledger in ledgers(output)
        for number in ledger.entries.after(0)
        if isinstance(read_entry(ledger, number), Slice)
    ]


def differences(found: dict[str, list[tuple]], wanted: dict[str, list[tuple]]) -> list[str]:
    """A sentence for each table whose rows differ."""
    return [f"{table}: {_difference(found[table], rows)}" for table, rows in wanted.items() if found[table] != rows]


def _difference(found: list[tuple], wanted: list[tuple]) -> str:
    missing = [row for row in wanted if row not in found]
    surplus = [row for row in found if row not in wanted]
    return f"{len(missing)} rows missing, {len(surplus)} too many; first: {str((missing + surplus)[:1])[:600]}"
