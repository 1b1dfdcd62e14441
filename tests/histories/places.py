"""Where the output of a history lies, as its checks see it: past all faults, in looks at all of its objects at once."""

import io
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pyarrow.parquet as pq
from deltalake import DeltaTable
from judged_rows import DIGITS, OF_LOT, VERDICT
from moved_clock import MovedClock

from pipeline.state.ledger import Ledger
from pipeline.state.publications import DataFile
from pipeline.tables.delta import load_newest, open_table
from pipeline.tables.files import data_files

SCORE = ["image_id", "uri", "member", "date", "model", "model_digest", "unit_id", "run_id", "score", "regions"]
COLUMNS = {
    "scores": [*SCORE, *VERDICT],
    "errors": ["image_id", "uri", "member", "date", "model", "run_id", "error"],
    "maps": ["image_id", "unit_id", "date", "model"],
    "regions": ["image_id", "unit_id", "date", "model", "region"],
    "runs": ["run_id", "slice", "model"],
    "lots": [*OF_LOT, "model"],
    "decisions": ["model", "model_digest", "entry", "setting", "old", "new", "decided_by"],
}
LOGGED = re.compile(r"(\w+)/_delta_log/(\d{20})\.(?:json|checkpoint\.parquet)")


class Place(Protocol):
    """uri: of the output.  known: what earlier looks have found."""

    uri: str
    known: "Known"

    def sizes(self) -> dict[str, int]: ...
    def read(self, key: str) -> bytes: ...
    def write(self, key: str, body: bytes) -> None: ...
    def pass_days(self, days: int) -> None: ...


@dataclass
class Known:
    """What never changes, so that no look need find it again.

    opened: the files of tables, by name, version and the oldest version of the log.  rows: of files, by key.
    passed: what a check has said, by its name, and the keys of what it looked at.  tables: loaded at some version.
    """

    opened: dict[tuple[str, int, int], list[DataFile]] = field(default_factory=dict)
    rows: dict[str, list[tuple]] = field(default_factory=dict)
    passed: dict[str, tuple[frozenset[str], Any]] = field(default_factory=dict)
    tables: dict[str, DeltaTable] = field(default_factory=dict)


class Disk:
    """A folder."""

    def __init__(self, folder: Path, clock: MovedClock) -> None:
        self.folder, self.uri, self.known = folder, f"file://{folder}", Known()
        self._clock = clock
        folder.mkdir(parents=True)

    def sizes(self) -> dict[str, int]:
        found, folders = {}, [str(self.folder)]
        for folder in folders:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_dir():
                        folders.append(entry.path)
                    else:
                        found[entry.path[len(str(self.folder)) + 1 :]] = entry.stat().st_size
        return found

    def read(self, key: str) -> bytes:
        return (self.folder / key).read_bytes()

    def write(self, key: str, body: bytes) -> None:
        (self.folder / key).write_bytes(body)
        self._clock.date(self.folder / key)

    def pass_days(self, days: int) -> None:
        self._clock.pass_days(days, self.folder)


class Look:
    """All objects of an output at one moment. sizes: in bytes, by key."""

    def __init__(self, place: Place) -> None:
        self.place, self.sizes = place, place.sizes()
        self.versions: dict[str, int] = {}
        self._oldest: dict[str, int] = {}
        for key in self.sizes:
            if found := LOGGED.fullmatch(key):
                name, version = found[1], int(found[2])
                self.versions[name] = max(version, self.versions.get(name, 0))
                self._oldest[name] = min(version, self._oldest.get(name, version))

    def files(self, name: str, version: int | None = None) -> list[DataFile]:
        """The active files of a table, by default of its newest version. A version never changes while its log is there."""
        version = self.versions.get(name) if version is None else version
        if version is None:
            return []
        key = name, version, self._oldest[name]
        if key not in self.place.known.opened:
            self.place.known.opened[key] = data_files(self._table(name, version))
        return self.place.known.opened[key]

    def _table(self, name: str, version: int) -> DeltaTable | None:
        """Loaded anew when its log has become shorter, and at every fifth version; else from where it was."""
        kept = self.place.known.tables.get(name)
        if kept is not None and kept.version() < version == self.versions[name] and version % 5:
            if (name, kept.version(), self._oldest[name]) in self.place.known.opened:
                load_newest(kept)
                return kept
        table = open_table(self.place.uri, name, version)
        if table is not None:
            self.place.known.tables[name] = table
        return table

    def rows(self, name: str, version: int | None = None) -> list[tuple]:
        """The rows of all active files; fails when one is missing."""
        found: list[tuple] = []
        for file in self.files(name, version):
            key = f"{name}/{file.path}"
            assert key in self.sizes, f"{name} needs {file.path}, which is not there"
            assert self.sizes[key] == file.size
            found += self._of_file(key, name, file.partition)
        return sorted(found, key=repr)

    def at(self, versions: Mapping[str, int]) -> dict[str, list[tuple]]:
        """The rows of each table at a version; of one without a version none."""
        return {name: self.rows(name, versions[name]) if name in versions else [] for name in COLUMNS}

    def newest(self) -> dict[str, list[tuple]]:
        return self.at(self.versions)

    def _of_file(self, key: str, name: str, partition: dict[str, str]) -> list[tuple]:
        """A file never changes."""
        if key not in self.place.known.rows:
            columns = [column for column in COLUMNS[name] if column not in partition]
            rows = pq.ParquetFile(io.BytesIO(self.place.read(key))).read(columns).to_pylist()
            for row in rows if name == "scores" else ():
                row["q_value"] = None if row["q_value"] is None else round(row["q_value"], DIGITS)
            self.place.known.rows[key] = [tuple((row | partition)[column] for column in COLUMNS[name]) for row in rows]
        return self.place.known.rows[key]

    def once(self, name: str, keys: frozenset[str], check: Callable[[], Any]) -> Any:
        """What a check of write-once objects says; it is not made again while their keys are the same."""
        before = self.place.known.passed.get(name)
        if before is None or before[0] != keys:
            before = self.place.known.passed[name] = keys, check()
        return before[1]

    def of_ledger(self, ledger: Ledger) -> frozenset[str]:
        """The keys of what a ledger has planned, tallied and folded."""
        return frozenset(key for part in ("entries", "tallies", "inventory") for key in self.below(f"{ledger.prefix}/{part}/"))

    def below(self, prefix: str) -> list[str]:
        """The keys that begin with a prefix, without it."""
        return [key[len(prefix) :] for key in self.sizes if key.startswith(prefix)]
