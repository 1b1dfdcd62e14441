"""Gives rows of `scores` and `errors` the key columns of another key pattern, read from their uris; nothing is scored again.

A rekey is an entry, from which on slices follow the new pattern, and then a publication that writes the files with other
values again. Whoever finds the entry without its publication can finish it: what is to be changed is seen in the rows.
Verdicts follow at once (pipeline/tables/rejudge.py), as other keys make other pieces and lots.
"""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable

from pipeline.input.config import SourceConfig
from pipeline.input.keys import key_pattern
from pipeline.input.pattern_fit import LOOKED_AT, PatternFit, path_read
from pipeline.state.entries import Head, Rekey, Slice, add_entry, read_entry
from pipeline.state.ledger import Ledger
from pipeline.state.plan import read_state
from pipeline.state.publications import Change, DataFile, Seal
from pipeline.state.unclosed import unclosed
from pipeline.storage.ranged import open_ranged
from pipeline.tables.changes import schema_text
from pipeline.tables.delta import TABLES, TableConflict, arrow_schema, check_fits, error_schema, score_schema, with_missing
from pipeline.tables.faults import TablesError
from pipeline.tables.files import data_files
from pipeline.tables.held import accept, look
from pipeline.tables.publication import Draft, MapFunction, Opened, publish, settled
from pipeline.tables.rejudge import rejudge
from pipeline.tables.writer import PartitionWriter, widened

READ_THREADS = 16
REKEYED = ("scores", "errors")


class SlicesWait(TablesError, ValueError):
    """Slices that were planned with another key pattern are not published yet."""


class Rekeyed(NamedTuple):
    """Files of `scores` and `errors` that had other values and were written again, and their rows."""

    files: int
    rows: int


@dataclass(frozen=True)
class FileJob:
    """One file that may have to be written again. schema: columns of the table.  sources: the inputs with the new pattern."""

    ledger: Ledger
    table: str
    file: DataFile
    schema: pa.Schema
    sources: tuple[SourceConfig, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that a key pattern fills."""
        others = (column for column in self.schema if column.name not in TABLES[self.table].SCHEMA.names)
        return ("lot", *(column.name for column in others if pa.types.is_string(column.type)))


def begin(ledger: Ledger, pattern: str) -> bool:
    """Add the entry that makes this the ledger's key pattern; False when it is already.

    Raises:
        SlicesWait: rows of an earlier pattern are still to come.
        TableConflict: a field has the name of another column.
    """
    score_schema(key_pattern(pattern).fields)
    while True:
        head = read_state(ledger)[1]
        if head.key_pattern == pattern:
            return False
        waiting = unclosed(ledger, settled(ledger.output_uri).closed(ledger.model))
        if waiting:
            raise SlicesWait(
                f"slices of model {ledger.model} must all be published before a rekey; {', '.join(map(str, waiting))} wait(s). "
                f"Repeat `flowscore score`. If slice {waiting[0]} is held, look at its errors: {look(ledger, waiting[0])}. "
                f"Then mend the images, or accept the errors: {accept(ledger, waiting[0])}"
            )
        if add_entry(ledger, head, Rekey(key_pattern=pattern)):
            return True


def tried(ledger: Ledger, pattern: str, rows: list[tuple[str, str | None, str]]) -> PatternFit | None:
    """What a pattern that is not the ledger's yet would read. rows: uri, member and date of some. None without any.

    Raises TableConflict: a uri lies below no input of the model.
    """
    head = read_state(ledger)[1]
    if head.key_pattern == pattern or not rows:
        return None
    sources = _sources(ledger, replace(head, key_pattern=pattern))
    read = []
    for uri, member, date in rows:
        source, key = _below(sources, uri)
        read.append(path_read(source, key, member, date))
    return PatternFit(sources[0], sorted(read, key=lambda path: path.path), 0, len(read), len(read) == LOOKED_AT)


def rekey(ledger: Ledger, map_fn: MapFunction = map) -> Rekeyed:
    """Bring all rows of the model under the ledger's key pattern; does nothing when they are.

    Args:
        map_fn: as for `publish_slice`.
    Raises:
        TableConflict: a column of the table does not fit, or a row's uri lies below no input of the model.
    """
    done = Rekeyed(0, 0)

    def prepare(seal: Seal, opened: Opened) -> Draft | None:
        nonlocal done
        head = read_state(ledger)[1]
        tables = ((name, opened[name]) for name in REKEYED)
        changes = {name: _change(ledger, head, name, table, map_fn) for name, table in tables if table is not None}
        changes = {name: change for name, change in changes.items() if change.remove}
        done = Rekeyed(sum(len(change.remove) for change in changes.values()), sum(map(_rows, changes.values())))
        if not changes and head.rekeyed <= seal.closed(ledger.model).rekeyed:
            return None
        return Draft(seal, ledger.model, "rekey", changes, rekey=head.rekeyed)

    publish(ledger.output_uri, prepare)
    rejudge(ledger, map_fn)
    return done


def rekey_file(job: FileJob) -> list[DataFile] | None:
    """The file's rows with other key columns, in new files; None when its rows have them already.

    It holds one row group at a time.
    """
    groups = _read(job, ["uri", "member", *job.columns])
    if all(_with_keys(rows, job).select(job.columns).equals(rows.select(job.columns)) for rows in groups):
        return None
    with TemporaryDirectory(prefix="flowscore-rekey-") as folder:
        args = (job.ledger.store, job.table, job.schema, job.file.partition, job.ledger.model, Path(folder))
        with PartitionWriter(*args) as writer:
            for rows in _read(job, writer.schema.names):
                writer.write(_with_keys(rows, job))
    return writer.files


def _change(ledger: Ledger, head: Head, name: str, table: DeltaTable, map_fn: MapFunction) -> Change:
    fields = key_pattern(head.key_pattern).fields if head.key_pattern else []
    schema = with_missing(arrow_schema(table), score_schema(fields) if name == "scores" else error_schema(fields))
    check_fits(table, name, schema)
    sources = _sources(ledger, head)
    jobs = [FileJob(ledger, name, file, schema, sources) for file in data_files(table, ledger.model)]
    add: list[DataFile] = []
    remove: list[DataFile] = []
    for job, written in zip(jobs, map_fn(rekey_file, jobs), strict=True):
        if written is not None:
            add += written
            remove.append(job.file)
    return Change(tuple(add), tuple(remove), schema_text(schema))


def _sources(ledger: Ledger, head: Head) -> tuple[SourceConfig, ...]:
    """Every input of the ledger with its present key pattern, the longest URI first."""
    return tuple(SourceConfig(input_uri=uri, key_pattern=head.key_pattern) for uri in _inputs(ledger, head))


def inputs(ledger: Ledger) -> list[str]:
    """The URIs of all inputs that the ledger's slices were planned from, the longest first; one request an entry."""
    return _inputs(ledger, read_state(ledger)[1])


def _inputs(ledger: Ledger, head: Head) -> list[str]:
    with ThreadPoolExecutor(READ_THREADS) as pool:
        entries = pool.map(lambda number: read_entry(ledger, number), range(1, head.number + 1))
        found = {scoring.source.input_uri for entry in entries if isinstance(entry, Slice) for scoring in entry.scorings}
    return sorted(found, key=lambda uri: (-len(uri), uri))


def _read(job: FileJob, names: list[str]) -> Iterator[pa.Table]:
    """Columns of the file, null where it lacks one."""
    with open_ranged(job.ledger.store, f"{job.table}/{job.file.path}") as opened:
        parquet = pq.ParquetFile(opened)
        there = [name for name in names if name in parquet.schema_arrow.names]
        for group in range(parquet.num_row_groups):
            yield widened(parquet.read_row_group(group, columns=there), pa.schema([job.schema.field(name) for name in names]))


def _with_keys(rows: pa.Table, job: FileJob) -> pa.Table:
    keys = [_keys(job.sources, uri, member) for uri, member in zip(*_texts(rows, "uri", "member"), strict=True)]
    for name in job.columns:
        column = pa.array([found.get(name) for found in keys], job.schema.field(name).type)
        rows = rows.set_column(rows.column_names.index(name), name, column)
    return rows


def _texts(rows: pa.Table, *names: str) -> Iterator[list[Any]]:
    return (rows[name].to_pylist() for name in names)


def _keys(sources: tuple[SourceConfig, ...], uri: str, member: str | None) -> dict[str, str]:
    """The key columns of an image, as its reading would have found them (pipeline/input/encoded_rows.py)."""
    source, key = _below(sources, uri)
    return source.keys(key, None if member is None else member.removeprefix("./"))


def _below(sources: tuple[SourceConfig, ...], uri: str) -> tuple[SourceConfig, str]:
    """The input that an image was read from, and its key there."""
    for source in sources:
        if uri.startswith(f"{source.input_uri}/"):
            return source, uri.removeprefix(f"{source.input_uri}/")
    raise TableConflict(f"uri of a row must lie below an input of its model; got {uri!r}. Another program has written it")


def _rows(change: Change) -> int:
    return sum(json.loads(file.stats)["numRecords"] for file in change.add)
