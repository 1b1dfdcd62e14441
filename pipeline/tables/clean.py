"""Deletes what nothing needs any more; it may run at any time, beside every other command.

Nothing is deleted that a version of the last `RETENTION_DAYS` days needs, that an unfinished publication names, or that is
younger than a publication can take.
"""

import logging
import random
import time
from datetime import UTC, datetime, timedelta

from deltalake.exceptions import CommitFailedError

from pipeline.state.inventory import unreferenced
from pipeline.state.ledger import Ledger, drop_commits, ledgers
from pipeline.state.publications import Publications, Seal
from pipeline.state.slices import unreferenced_parts
from pipeline.storage.objects import folders
from pipeline.storage.store import open_store
from pipeline.tables.delta import RETENTION_DAYS, TABLES, VACUUM_DAYS, open_or_create, open_table
from pipeline.tables.faults import retried
from pipeline.tables.publication import Draft, Opened, publish, settled

log = logging.getLogger(__name__)

TRIES = 10


def clean(output_uri: str) -> dict[str, int]:
    """Returns how many objects were deleted, by what they were."""
    seal = _sealed_anew(output_uri)
    _clean_logs(output_uri)
    deleted: dict[str, int] = {}
    for name in TABLES:
        gone = _vacuumed(output_uri, name)
        if gone is not None:
            deleted[f"files of {name}"] = gone
    for ledger in ledgers(output_uri):
        closed = seal.closed(ledger.model)
        commits = sum(drop_commits(ledger, number) for number in slices_with_commits(ledger) if closed.holds(number))
        deleted[f"commits of published slices of {ledger.model}"] = commits
        parts, files = unreferenced_parts(ledger, datetime.now(UTC) - timedelta(days=RETENTION_DAYS)), unreferenced(ledger)
        for key in (*parts, *files):
            ledger.store.delete(key)
        deleted[f"files of plannings of {ledger.model} that no slice came of"] = len(parts)
        deleted[f"files of old inventories of {ledger.model}"] = len(files)
    if unfinished := open_store(output_uri).delete_unfinished():
        deleted["files that were never written to their end"] = unfinished
    return deleted


def _vacuumed(output_uri: str, name: str) -> int | None:
    """Deletes a table's old files; returns how many, None without any.

    A publisher who was killed may have left files of a table that nobody has made so far; it is made then, without rows.

    The library writes down in the table's log what it deletes, and ends where another command has committed meanwhile.
    """
    for _ in range(TRIES):
        table = open_table(output_uri, name)
        if table is None:
            if next(iter(open_store(output_uri).list(f"{name}/")), None) is None:
                return None
            table = open_or_create(output_uri, name, None)
        try:
            return len(retried(table.vacuum)(retention_hours=VACUUM_DAYS * 24, dry_run=False, full=True))
        except CommitFailedError:
            time.sleep(random.uniform(0.5, 1.0))
    log.warning("files of the table %s are left to a later cleaning: others commit all the time", name)
    return 0


def _sealed_anew(output_uri: str) -> Seal:
    """A seal of this cleaning's own, which has the newest version of every table.

    Other programs commit without a seal. Files that they removed long ago would be deleted though the last seal's readers,
    and the next publication, still need them. And a publisher who slept since he looked whether his files are there finds
    the number of his manifest taken, and looks again.
    """

    def prepare(seal: Seal, opened: Opened) -> Draft | None:
        return Draft(seal, min(seal.ledgers), "compaction", {}) if seal.ledgers else None

    publish(output_uri, prepare)
    return settled(output_uri)


def _clean_logs(output_uri: str) -> None:
    """Shorten the tables' logs to the versions from the last seal on that was there `RETENTION_DAYS` ago.

    The library itself would keep the newest version only, however young the last version before is: the table lay idle.
    """
    before = datetime.now(UTC) - timedelta(days=RETENTION_DAYS)
    seals = Publications(output_uri).seals_since(before)
    if not seals or datetime.fromisoformat(seals[0].sealed_at) > before:
        return
    for name, version in seals[0].versions.items():
        table = open_table(output_uri, name, version)
        assert table is not None, name
        retried(table.create_checkpoint)()
        retried(table.cleanup_metadata)()


def slices_with_commits(ledger: Ledger) -> list[int]:
    """Numbers of the slices that still have commits, ascending; one request for each."""
    return [int(name) for name in folders(ledger.store, f"{ledger.prefix}/commits/")]
