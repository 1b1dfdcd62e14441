"""Publishes: writes ahead what is to change in all tables, changes them one after another, and seals.

Each step is there because without it some order of the steps of several drivers loses or doubles rows. In short: a manifest is
put only once the one before it is sealed; whoever finds a manifest without a seal completes it; a table takes a manifest
exactly once, by its transaction number; losers delete nothing.
"""

import logging
import random
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError

from pipeline.state.publications import Change, Kind, Manifest, Publications, Seal
from pipeline.storage.objects import Denied, StorageError, listed, retry
from pipeline.storage.store import open_store
from pipeline.tables.changes import REMOVALS, TRANSACTIONS, active_paths, apply_change, committed_number, schema_of
from pipeline.tables.delta import TABLES, load_newest, open_or_create, open_table
from pipeline.tables.foreign import take_back

log = logging.getLogger(__name__)

FIRST_WAIT_S, LONGEST_WAIT_S = 0.05, 5.0
CHECK_THREADS = 16

STEPS = (
    ("maps", "all"),
    ("regions", "all"),
    ("errors", "add"),
    ("scores", "all"),
    ("errors", "remove"),
    ("lots", "all"),
    ("decisions", "all"),
    ("drift", "all"),
    ("runs", "all"),
)
"""The order in which a manifest changes the tables. An image that moves from errors to scores, or back, is in both for a
moment and never in neither: readers take `errors` without the images that are in `scores`."""

MapFunction = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]
"""Applies a function to the jobs of a publication: `map` in this process, one after another; Ray tasks can do it too."""

Opened = Mapping[str, DeltaTable | None]
Handles = dict[str, DeltaTable | None]
"""Tables that are loaded: to bring one up to date costs less than to load it again, above all one of many files."""


@dataclass(frozen=True)
class Draft:
    """What a publication is to do; its data files are written. base: the seal on which that was decided.

    row: writes the file with the row of `runs`, which holds the publication's number, once that is known.
    """

    base: Seal
    model: str
    kind: Kind
    changes: dict[str, Change]
    slice: int | None = None
    skipped: tuple[int, ...] = ()
    rekey: int = 0
    judged: int = 0
    row: Callable[[int], Change] | None = None


def publish(output_uri: str, prepare: Callable[[Seal, Opened], Draft | None], handles: Handles | None = None) -> Seal | None:
    """Bring a publication into all tables and seal it; None when `prepare` finds nothing to do.

    Args:
        prepare: decides by the newest seal and tables, and writes data files. It is called again when another driver of the
            same ledger has published meanwhile, or a file that it removes is gone.
        handles: tables that the command has loaded; afterwards they are as this publication has left them.
    """
    handles = {} if handles is None else handles
    while True:
        base = settled(output_uri)
        for name in TABLES:
            _loaded(output_uri, name, handles, base.versions.get(name))
        draft = prepare(base, handles)
        if draft is None:
            return None
        seal = _put(output_uri, draft, handles)
        if seal is not None:
            return seal


def _loaded(output_uri: str, name: str, handles: Handles, sealed: int | None = None) -> DeltaTable | None:
    """The newest version of a table; None when there is none.

    sealed: a version that the table has reached. A table that was loaded before that, and whose log a cleaning has shortened
    since, does not get there any more, and is opened anew; so is one whose credentials have expired.
    """
    table = handles.get(name)
    if table is not None:
        try:
            retry(partial(load_newest, table))
        except StorageError as error:
            log.debug("opening the table %s anew: %s", name, error)
        else:
            if table.version() >= (sealed or 0):
                return table
    handles[name] = open_table(output_uri, name)
    return handles[name]


def settled(output_uri: str) -> Seal:
    """The newest seal, after a manifest without one, which somebody else may be about to complete, is completed."""
    publications = Publications(output_uri)
    while True:
        written = publications.manifests.newest()
        base = publications.last_seal()
        if written <= base.number:
            return base
        manifest = publications.manifest(written)
        log.warning("model %s: publication %d is not complete: completing it", manifest.model, manifest.number)
        complete(output_uri, manifest)


def _put(output_uri: str, draft: Draft, handles: Handles) -> Seal | None:
    """Put the draft's manifest as soon as its number is free, and complete it. None: decide anew."""
    publications, attempt = Publications(output_uri), uuid.uuid4().hex
    while True:
        base = settled(output_uri)
        mine, then = base.closed(draft.model), draft.base.closed(draft.model)
        if mine.publication != then.publication or not _fits(output_uri, draft.changes, base, handles):
            return None
        number = base.number + 1
        manifest = Manifest(
            number=number,
            attempt=attempt,
            model=draft.model,
            kind=draft.kind,
            slice=draft.slice,
            skipped=draft.skipped,
            changes=draft.changes if draft.row is None else {**draft.changes, "runs": draft.row(number)},
            written_at=datetime.now(UTC).isoformat(timespec="seconds"),
            rekey=draft.rekey,
            judged=draft.judged,
        )
        put = publications.manifests.put_new(manifest.number, manifest.text())
        if put or publications.manifest(manifest.number).attempt == attempt:
            return complete(output_uri, manifest, handles)


def _fits(output_uri: str, changes: Mapping[str, Change], base: Seal, handles: Handles) -> bool:
    """Whether every file to be removed is active in the newest table. Raises StorageError if one to be added is missing."""
    for name, change in changes.items():
        if change.remove:
            table = _loaded(output_uri, name, handles, base.versions.get(name))
            if not {file.path for file in change.remove} <= active_paths(table):
                return False
    store = open_store(output_uri)
    added = [(f"{name}/{file.path}", file.size) for name, change in changes.items() for file in change.add]
    with ThreadPoolExecutor(CHECK_THREADS) as pool:
        for (key, size), found in zip(added, pool.map(lambda file: listed(store, file[0]), added), strict=True):
            if found is None or found.size != size:
                raise StorageError(f"{key} below {store.uri} must have {size} bytes; got {found}. Repeat the command")
    return True


def complete(output_uri: str, manifest: Manifest, handles: Handles | None = None) -> Seal:
    """Do what is left of a manifest and seal it; anybody may, any number of times."""
    handles = {} if handles is None else handles
    publications = Publications(output_uri)
    before = publications.seal(manifest.number - 1) if manifest.number > 1 else Seal()
    versions = dict(before.versions)
    for name, what in STEPS:
        change = manifest.changes.get(name, Change())
        if what == "add":
            change = replace(change, remove=())
        elif what == "remove":
            change = Change(remove=change.remove)
        application = REMOVALS if what == "remove" else TRANSACTIONS
        version = _changed(output_uri, name, change, manifest, application, before.versions.get(name), handles)
        if version is not None:
            versions[name] = version
    closed = before.closed(manifest.model).after(manifest)
    seal = Seal(
        manifest.number, versions, before.ledgers | {manifest.model: closed}, datetime.now(UTC).isoformat(timespec="seconds")
    )
    put = publications.seals.put_new(seal.number, seal.text())
    return seal if put else publications.seal(seal.number)


def _changed(
    output_uri: str, name: str, change: Change, manifest: Manifest, application: str, sealed: int | None, handles: Handles
) -> int | None:
    """The version of the table that has the change; None without a table. sealed: its version in the seal before."""
    if not change.add and not change.remove:
        table = _loaded(output_uri, name, handles, sealed)
        return None if table is None else table.version()
    schema = schema_of(change)
    wait_s, newest = FIRST_WAIT_S, False

    def attempt(newest: bool) -> int:
        # A table that is loaded need not be the newest: then the commit fails, and the next look is at the newest.
        loaded = handles.get(name)
        if loaded is None or newest or loaded.version() < (sealed or 0):
            loaded = _loaded(output_uri, name, handles, sealed)
        table = handles[name] = open_or_create(output_uri, name, schema, loaded)
        if committed_number(table, application) >= manifest.number:
            return table.version()
        if change.remove and (missing := {file.path for file in change.remove} - active_paths(table)):
            take_back(output_uri, name, table, missing, sealed)
        else:
            apply_change(table, change, application, manifest.number)
        return -1  # the next look finds the transaction, also when this commit's answer was lost

    while True:
        try:
            version = retry(partial(attempt, newest))
        except CommitFailedError:  # another process was first
            time.sleep(wait_s * random.uniform(0.5, 1.0))
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)
        except Denied:  # the credentials with which the table was loaded may have expired
            if newest:
                raise
        else:
            if version != -1:
                return version
        newest = True
