"""Takes commits of other programs back that removed files between a manifest and its completion.

A manifest says which files it removes. When another program (an OPTIMIZE, a VACUUM's rewrite) has replaced one of them in the
meantime, its rows would be in the table twice. So its commit is undone by its inverse, which readers of seals never see.
"""

import json
import logging
from typing import Any
from urllib.parse import unquote

import pyarrow.parquet as pq
from deltalake import DeltaTable

from pipeline.state.publications import DataFile
from pipeline.storage.objects import Gone, StorageError
from pipeline.storage.ranged import open_ranged
from pipeline.storage.store import Store, open_store
from pipeline.tables.changes import TRANSACTIONS, commit_files
from pipeline.tables.delta import open_table
from pipeline.tables.files import data_files
from pipeline.tables.statistics import statistics

log = logging.getLogger(__name__)


def take_back(output_uri: str, name: str, table: DeltaTable, missing: set[str], sealed: int | None) -> None:
    """One commit that undoes those of other programs after version `sealed`, back to the one that removed a missing file.

    Raises:
        CommitFailedError: another commit was first.
        StorageError: no commit of another program has removed the files, or one that it removed is deleted.
    """
    store = open_store(output_uri)
    newest = table.version()
    foreign = []
    for version in range(newest, sealed or 0, -1):
        actions = _actions(store, name, version)
        if not any(str(action["txn"].get("appId", "")).startswith(TRANSACTIONS) for action in actions if "txn" in action):
            foreign.append((version, actions))
        if missing <= {unquote(action["remove"]["path"]) for _, done in foreign for action in done if "remove" in action}:
            break
    else:
        raise StorageError(
            f"table {name} must hold the files that a publication replaces; {sorted(missing)[0]} is not in it, and no commit "
            f"after version {sealed} has removed it. Restore the table to that version with any Delta program"
        )
    first = min(version for version, _ in foreign)
    before = {file.path: file for file in data_files(open_table(output_uri, name, first - 1))}
    now = {file.path: file for file in data_files(table)}
    added = {unquote(action["add"]["path"]) for _, done in foreign for action in done if "add" in action}
    removed = {unquote(action["remove"]["path"]) for _, done in foreign for action in done if "remove" in action}
    back = tuple(_with_statistics(store, name, before[path]) for path in sorted(removed & before.keys() - now.keys()))
    gone = tuple(now[path] for path in sorted((added - before.keys()) & now.keys()))
    log.warning(
        "table %s: version %s of another program replaced files while a publication was under way; it is taken back",
        *(name, ", ".join(str(version) for version, _ in reversed(foreign))),
    )
    commit_files(table, back, gone, None)


def _actions(store: Store, name: str, version: int) -> list[dict[str, Any]]:
    try:
        body = store.get(f"{name}/_delta_log/{version:020d}.json")
    except Gone as error:
        raise StorageError(f"the log of table {name} must hold version {version}; it is gone: {error}") from error
    return [json.loads(line) for line in body.splitlines() if line.strip()]


def _with_statistics(store: Store, name: str, file: DataFile) -> DataFile:
    with open_ranged(store, f"{name}/{file.path}") as opened:
        return file._replace(stats=statistics(pq.read_metadata(opened)))
