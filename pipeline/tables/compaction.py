"""Merges the small files of a ledger's partitions, and drops maps and regions that were replaced.

A compaction is a publication of its own. `finalize --compact` merges all files of less than half of FILE_BYTES. `score` merges
as soon as that rids a table of DUE_FILES files, smallest first, and leaves a file out that is more than TIER times as large as
all smaller ones together. So an output has few files after any number of nights: a file grows by a half at least with every
merge, a partition keeps a number of files that grows with the logarithm of its size, and a row is written again about as often.
Files of more than NIGHT_BYTES stay as they are until that command.
"""

import logging
import math
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import DeltaTable

from pipeline.state.ledger import Ledger
from pipeline.state.publications import Change, DataFile, Publications, Seal
from pipeline.storage.objects import StorageError, listed
from pipeline.storage.ranged import open_ranged
from pipeline.storage.store import Store, open_store
from pipeline.tables.changes import schema_text
from pipeline.tables.delta import arrow_schema, open_table
from pipeline.tables.faults import TablesError
from pipeline.tables.files import data_files
from pipeline.tables.order import sort_keys
from pipeline.tables.publication import Draft, Handles, MapFunction, Opened, publish
from pipeline.tables.writer import FILE_BYTES, PartitionWriter, widened

log = logging.getLogger(__name__)

DUE_FILES = 16
"""A merge that rids a table of so many files is worth its publication."""
TIER = 2.0
NIGHT_BYTES = FILE_BYTES // 8
"""A larger file is not worth a night's time, and images that are scored again would have all of a merged one written anew."""

KEPT_REPLACED = timedelta(days=1)
"""So long a foreign reader may still join maps with a version of `scores` that it has opened before."""

COMPACTED = ("maps", "regions", "errors", "scores", "lots", "drift", "runs")
OF_SCORES = ("maps", "regions")
PIECE_ROWS = 500_000
"""So many images of a file of `scores` are in memory at once."""

Groups = dict[str, list[list[DataFile]]]
"""By table: files that are merged into one, or a few."""
Merged = dict[str, tuple[int, int]]
"""By table: the number of files before and after."""


@dataclass(frozen=True)
class MergeJob:
    """Files of one partition that become one sorted file, or a few.

    joined: files of `scores`; only rows of their images stay, by image_id and unit_id. None keeps all.
    """

    output_uri: str
    table: str
    stem: str
    schema: pa.Schema
    files: tuple[DataFile, ...]
    joined: tuple[DataFile, ...] | None


def compact(ledger: Ledger, map_fn: MapFunction = map) -> Merged:
    """Merge all that is small; returns for each table that changed the number of files before and after.

    Args:
        map_fn: as for `publish_slice`.
    """
    return _compact(ledger, map_fn, {}, night=False)


def compact_if_due(ledger: Ledger, handles: Handles, map_fn: MapFunction = map) -> None:
    """Keep the number of files small, by what the loaded tables show; without a request when it is not due.

    Nothing depends on it: what storage refuses, or another driver does first, is left to a later command.
    """
    if _most_saved(_groups_of(ledger, handles, night=True)) < DUE_FILES:
        return
    log.info("model %s: merging small files of the tables", ledger.model)
    try:
        done = _compact(ledger, map_fn, handles, night=True)
    except (StorageError, TablesError) as error:
        log.warning("model %s: small files of its tables are not merged, a later command does it. %s", ledger.model, error)
    else:
        counts = ", ".join(f"{before:,} files of {name} into {after:,}" for name, (before, after) in done.items())
        log.info("model %s: merged %s", ledger.model, counts or "nothing: another driver was first")


def _compact(ledger: Ledger, map_fn: MapFunction, handles: Handles, night: bool) -> Merged:
    """night: merge what is due, otherwise all that is small."""
    done: Merged = {}

    def prepare(seal: Seal, opened: Opened) -> Draft | None:
        done.clear()
        found = _groups_of(ledger, opened, night)
        if _most_saved(found) < (DUE_FILES if night else 1):
            return None
        joined = _joined(ledger, seal, opened["scores"]) if found["maps"] or found["regions"] else None
        changes = {}
        for name, merged in found.items():
            table = opened[name]
            if table is None or not merged:
                continue
            schema = arrow_schema(table)
            jobs = list(_jobs(ledger, name, schema, merged, joined if name in OF_SCORES else None))
            added = tuple(file for files in map_fn(merge, jobs) for file in files)
            removed = tuple(file for job in jobs for file in job.files)
            changes[name] = Change(added, removed, schema_text(schema))
        done.update({name: (len(change.remove), len(change.add)) for name, change in changes.items()})
        return Draft(seal, ledger.model, "compaction", changes)

    publish(ledger.output_uri, prepare, handles)
    return done


def groups(files: Sequence[DataFile], tier: float = math.inf, largest: int = FILE_BYTES // 2) -> Iterator[list[DataFile]]:
    """Files of one partition, each group of which is merged into one of at most FILE_BYTES; no group of one.

    Args:
        tier: a file begins another group when it is more than so many times as large as all those before it together.
        largest: files of more bytes stay as they are.
    """
    group: list[DataFile] = []
    size = 0
    for file in sorted(files, key=lambda file: (file.size, file.path)):
        if file.size > largest:
            break
        if group and (file.size > tier * size or file.size + size > FILE_BYTES):
            if len(group) > 1:
                yield group
            group, size = [], 0
        group.append(file)
        size += file.size
    if len(group) > 1:
        yield group


def merge(job: MergeJob) -> list[DataFile]:
    """Write the rows of the job's files in the table's order; memory holds them all and their sorted copy, 1.8 GB at most."""
    store = open_store(job.output_uri)
    tables = []
    for file in job.files:
        with open_ranged(store, f"{job.table}/{file.path}") as opened:
            tables.append(pq.ParquetFile(opened).read())
    rows = pa.concat_tables(tables, promote_options="permissive")
    if job.joined is not None:
        rows = rows.filter(_in_scores(store, rows, job.joined))
    rows = rows.sort_by(sort_keys(job.table))
    with tempfile.TemporaryDirectory(prefix="flowscore-compact-") as folder:
        with PartitionWriter(store, job.table, job.schema, job.files[0].partition, job.stem, Path(folder)) as writer:
            if rows.num_rows:
                writer.write(widened(rows, writer.schema))
        return writer.files


def spare(files: Sequence[DataFile]) -> int:
    """Of how many of a table's files `finalize --compact` rids it."""
    return sum(len(group) - 1 for partition in _partitions(files) for group in groups(partition))


def _partitions(files: Iterable[DataFile]) -> list[list[DataFile]]:
    def partition(file: DataFile) -> list[tuple[str, str]]:
        return sorted(file.partition.items())

    return [list(found) for _, found in groupby(sorted(files, key=partition), partition)]


def _groups_of(ledger: Ledger, tables: Opened, night: bool) -> Groups:
    """What is to be merged of the ledger's part of each table."""
    found: Groups = {}
    for name in COMPACTED:
        partitions = _partitions(data_files(tables.get(name), ledger.model))
        found[name] = [
            group for files in partitions for group in (groups(files, TIER, NIGHT_BYTES) if night else groups(files))
        ]
    return found


def _most_saved(found: Groups) -> int:
    """Of how many files a merge rids the table that loses most."""
    return max(sum(len(group) - 1 for group in merged) for merged in found.values())


def _jobs(
    ledger: Ledger, name: str, schema: pa.Schema, merged: list[list[DataFile]], joined: list[DataFile] | None
) -> Iterator[MergeJob]:
    for group in merged:
        partition = group[0].partition
        here = None if joined is None else tuple(file for file in joined if file.partition == partition)
        yield MergeJob(ledger.output_uri, name, ledger.model, schema, tuple(group), here)


def _joined(ledger: Ledger, seal: Seal, scores: DeltaTable | None) -> list[DataFile] | None:
    """The files of all versions of `scores` that somebody may be reading: the newest, and those that were it within
    KEPT_REPLACED. None when the ledger has published nothing before that: then they hold all rows."""
    versions = _versions_since(ledger, seal, datetime.now(UTC) - KEPT_REPLACED)
    if versions is None:
        return None
    now = {file.path: file for file in data_files(scores)}
    opened = [open_table(ledger.output_uri, "scores", version) for version in sorted(versions)]
    earlier = {file.path: file for table in opened for file in data_files(table)}
    store = open_store(ledger.output_uri)
    # A file that another program removed long ago may be deleted: then nobody reads that version any more.
    there = [file for path, file in earlier.items() if path not in now and listed(store, f"scores/{path}") is not None]
    return [*now.values(), *there]


def _versions_since(ledger: Ledger, seal: Seal, moment: datetime) -> set[int] | None:
    """The versions of `scores` before each publication of the ledger that was sealed after that moment, from the version in the
    seal before: another program may have moved its rows to other files until then. Publications of other ledgers change none
    of its rows. None when the ledger is younger. Two requests a publication."""
    publications, versions = Publications(ledger.output_uri), set[int]()
    number = seal.closed(ledger.model).publication
    while number:
        after = publications.seal(number)
        if datetime.fromisoformat(after.sealed_at) <= moment:
            return versions
        before = publications.seal(number - 1) if number > 1 else Seal()
        if "scores" in before.versions:
            versions |= set(range(before.versions["scores"], after.versions["scores"]))
        number = before.closed(ledger.model).publication
    return None


def _in_scores(store: Store, rows: pa.Table, files: tuple[DataFile, ...]) -> pa.Array:
    """Whether each row's image and unit are in those files of `scores`.

    The smallest files come first, as they hold what is new; once all rows are found the others are not read.
    """
    mine = _image_and_unit(rows)
    found = pa.array(np.zeros(len(mine), bool))
    for file in sorted(files, key=lambda file: file.size):
        with open_ranged(store, f"scores/{file.path}") as opened:
            for batch in pq.ParquetFile(opened).iter_batches(PIECE_ROWS, columns=["image_id", "unit_id"]):
                found = pc.or_(found, pc.is_in(mine, _image_and_unit(pa.Table.from_batches([batch]))))
        if pc.all(found).as_py():
            break
    return found


def _image_and_unit(rows: pa.Table) -> pa.Array:
    texts = (rows[name].cast(pa.string()) for name in ("image_id", "unit_id"))
    return pc.binary_join_element_wise(*texts, "/").combine_chunks()
