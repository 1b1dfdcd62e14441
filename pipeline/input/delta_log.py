"""Reads the transaction log of a Delta table to find the files of its newest version.

It needs no Delta library: only the names of the files matter, and a table with a feature that needs more is refused by the
feature's name. Source: the Delta transaction log protocol, reader versions 1 to 3.
"""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.input.faults import InputError
from pipeline.storage.ranged import open_ranged
from pipeline.storage.store import Store

LOG = "_delta_log/"
COMMIT = re.compile(r"(\d{20})\.json")
CHECKPOINT = re.compile(r"(\d{20})\.checkpoint(?:\.(\d{10})\.(\d{10}))?\.parquet")
ACTIONS = ("protocol", "metaData", "add", "remove", "sidecar")
STATISTICS = {"stats", "stats_parsed", "partitionValues", "partitionValues_parsed", "tags"}
READ = {"timestampNtz", "vacuumProtocolCheck", "typeWidening", "columnMapping", "deletionVectors", "v2Checkpoint"}
"""Reader features that a table may name: they do not concern images, or their use is checked."""


class UnreadableTable(InputError, ValueError):
    """The newest version of a Delta table cannot be read; the message says why."""


def live_files(store: Store, folder: str) -> set[str]:
    """Keys of the data files of the table's newest version.

    Args:
        folder: folder of the table, with a slash at the end; empty for the input itself.
    Raises:
        UnreadableTable: the log is damaged, or the table uses deletion vectors, column mapping, files elsewhere or a feature
            that is not known here.
    """
    snapshot = _Snapshot(folder)
    commits, checkpoints = _versions(store, folder)
    first = max(checkpoints, default=-1)
    for key in checkpoints.get(first, []):
        snapshot.apply(_checkpoint(store, key, snapshot))
    newest = max([*commits, first])
    if newest < 0:
        snapshot.refuse("have a version", "no commit in its log", "Wait until it is written, or move it out of the input")
    for version in range(first + 1, newest + 1):
        if version not in commits:
            snapshot.refuse("have a whole log", f"no commit of version {version}", "Restore it, or write a classic checkpoint")
        snapshot.apply(_commit(store, commits[version], snapshot))
    return snapshot.files()


class _Snapshot:
    """The state of the table after the actions so far."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._added: dict[str, Any] = {}
        self._protocol: dict[str, Any] = {}
        self._configuration: dict[str, str] = {}

    def apply(self, actions: Iterable[tuple[str, dict[str, Any]]]) -> None:
        """Apply one commit or part of a checkpoint. It may remove a file and add it again with another deletion vector."""
        added: dict[str, Any] = {}
        for name, action in actions:
            if name == "add":
                added[action["path"]] = action.get("deletionVector")
            elif name == "remove":
                self._added.pop(action["path"], None)
            elif name == "protocol":
                self._protocol = action
            elif name == "metaData":
                self._configuration = dict(action.get("configuration") or {})
            else:
                self.refuse("have its files in the log", "a v2 checkpoint with sidecars", "Write a classic checkpoint")
        self._added |= added

    def files(self) -> set[str]:
        self._check_features()
        for path, vector in self._added.items():
            if vector is not None:
                self.refuse("have no deletion vectors", f"one of {path!r}", "Rewrite it: REORG TABLE ... APPLY (PURGE)")
            if path.startswith("/") or re.match(r"[A-Za-z][A-Za-z0-9+.-]*:/", path):
                self.refuse("hold its own files", f"{path!r} (a shallow clone)", "Make a deep clone of it")
        return {self.folder + unquote(path) for path in self._added}

    def refuse(self, rule: str, got: object, fix: str) -> None:
        """Raises UnreadableTable."""
        raise UnreadableTable(f"the Delta table {self.folder.rstrip('/') or '.'!r} must {rule}; got {got}. {fix}.")

    def _check_features(self) -> None:
        mode = self._configuration.get("delta.columnMapping.mode", "none")
        if mode != "none":
            self.refuse("have no column mapping", f"delta.columnMapping.mode {mode!r}", "Write it again without")
        version = self._protocol.get("minReaderVersion") or 0
        if not 1 <= version <= 3:
            self.refuse("have a reader version of 1 to 3", version, "Write it again with a protocol that is read")
        unknown = sorted(set(self._protocol.get("readerFeatures") or []) - READ) if version == 3 else []
        if unknown:
            self.refuse("use features that are read", ", ".join(unknown), "Write it again without")


def _versions(store: Store, folder: str) -> tuple[dict[int, str], dict[int, list[str]]]:
    """Keys of the commits, and of the whole checkpoints, by version."""
    commits: dict[int, str] = {}
    parts: dict[tuple[int, int], list[str]] = {}
    for entry in store.list(folder + LOG):
        name = entry.key[len(folder) + len(LOG) :]
        if found := COMMIT.fullmatch(name):
            commits[int(found[1])] = entry.key
        elif found := CHECKPOINT.fullmatch(name):
            parts.setdefault((int(found[1]), int(found[3] or 1)), []).append(entry.key)
    return commits, {version: keys for (version, count), keys in parts.items() if len(keys) == count}


def _commit(store: Store, key: str, snapshot: _Snapshot) -> list[tuple[str, dict[str, Any]]]:
    try:
        lines = [json.loads(line) for line in store.get(key).decode().splitlines() if line.strip()]
        return [_checked(name, action) for line in lines for name, action in line.items() if name in ACTIONS]
    except (ValueError, AttributeError, TypeError, KeyError) as error:
        raise _damaged(snapshot, key, error) from error


def _checkpoint(store: Store, key: str, snapshot: _Snapshot) -> Iterator[tuple[str, dict[str, Any]]]:
    """The actions of one file of a checkpoint; its `remove` only names files that are already gone."""
    try:
        with open_ranged(store, key) as file:
            parquet = pq.ParquetFile(file)
            columns = [path for field in parquet.schema_arrow for path in _leaves(field) if field.name in ACTIONS]
            for batch in parquet.iter_batches(1024, columns=columns, use_threads=False):
                for row in batch.to_pylist():
                    yield from (_checked(name, action) for name, action in row.items() if action and name != "remove")
    except (pa.ArrowException, OSError, ValueError, TypeError, KeyError) as error:
        raise _damaged(snapshot, key, error) from error


def _leaves(field: pa.Field) -> list[str]:
    """The parts of an action that name files and how to read them; statistics, most of a checkpoint, are left out."""
    return [f"{field.name}.{inner.name}" for inner in field.type if inner.name not in STATISTICS]


def _checked(name: str, action: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The action as a plain dictionary; a Parquet map column arrives as pairs."""
    if name in ("add", "remove") and not isinstance(action["path"], str):
        raise TypeError(f"the path of a file is {action['path']!r}")
    return name, dict(action)


def _damaged(snapshot: _Snapshot, key: str, error: Exception) -> UnreadableTable:
    place = snapshot.folder.rstrip("/") or "."
    return UnreadableTable(f"the Delta table {place!r} must have a log that can be read; got {key!r}: {error}. Restore it.")
