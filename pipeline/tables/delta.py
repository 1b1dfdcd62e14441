"""The Delta tables under an output: how they are made, opened, checked and changed.

A table changes by one commit of explicit removes and adds on exactly the version that was read; when another writer was
first, the commit fails and the caller reads again. Nothing is ever overwritten, so old files stay for `RETENTION_DAYS`.
"""

import os
from collections.abc import Iterable
from types import ModuleType
from urllib.parse import quote, unquote

import pyarrow as pa
from deltalake import DeltaTable, Field
from deltalake.exceptions import TableNotFoundError

from pipeline.input.config import SourceOptions
from pipeline.input.keys import key_pattern
from pipeline.storage.local import LocalStore
from pipeline.storage.objects import Gone
from pipeline.storage.s3_connection import current_connection
from pipeline.storage.store import open_store
from pipeline.tables.address import delta_address
from pipeline.tables.faults import TablesError, named, retried
from schemas import decisions, drift, errors, lots, maps, regions, runs, scores

TABLES: dict[str, ModuleType] = {
    "maps": maps,
    "regions": regions,
    "errors": errors,
    "lots": lots,
    "scores": scores,
    "runs": runs,
    "decisions": decisions,
    "drift": drift,
}
"""Every table with its schema module."""

RETENTION_DAYS = 90
VACUUM_DAYS = RETENTION_DAYS + 7
"""Longer than the rollback window, so that a rollback that begins within it can end."""
RETENTION = {
    "delta.logRetentionDuration": f"interval {RETENTION_DAYS} days",
    "delta.deletedFileRetentionDuration": f"interval {VACUUM_DAYS} days",  # a checkpoint forgets what was removed before that
}
VERSION_PROPERTY = "flowscore.schema_version"


class TableConflict(TablesError, ValueError):
    """An existing table does not fit the rows to write."""


@retried
def open_table(output_uri: str, name: str, version: int | None = None) -> DeltaTable | None:
    """The table at a version, by default its newest; None when nothing is published to it yet. Raises Denied, Unreachable."""
    try:
        return DeltaTable(delta_address(output_uri, name), version, storage_options=storage_options(output_uri))
    except TableNotFoundError as error:
        if version is None:
            return None
        raise Gone(
            f"version {version} of the table {name} in {output_uri} must be in its log; it is not any more. "
            "Another program has shortened the log"
        ) from error


def load_newest(table: DeltaTable) -> None:
    """Bring a loaded table to its newest version; costs what was committed since, not the whole table. Raises Unreachable."""
    with named():
        table.update_incremental()


def open_or_create(output_uri: str, name: str, schema: pa.Schema | None, loaded: DeltaTable | None = None) -> DeltaTable:
    """The table, created or widened to have every column of `schema`; no column is ever removed.

    Args:
        schema: None asks for no more columns than the table has.
        loaded: the table's newest version, if it is loaded already.

    Raises:
        TableConflict: the table has other partitions, another type for a column, or a newer schema version.
        Denied, Unreachable: call it again.
    """
    table = open_table(output_uri, name) if loaded is None else loaded
    with named():
        return _created_and_widened(table, output_uri, name, TABLES[name].SCHEMA if schema is None else schema)


def _created_and_widened(table: DeltaTable | None, output_uri: str, name: str, schema: pa.Schema) -> DeltaTable:
    module = TABLES[name]
    if table is None:
        table = DeltaTable.create(
            delta_address(output_uri, name),
            schema=schema,
            mode="ignore",
            partition_by=module.PARTITION_BY,
            description=(module.__doc__ or "").strip(),
            configuration={
                **RETENTION,
                "delta.enableExpiredLogCleanup": "false",  # `finalize --clean` cleans the log, up to a sealed version
                "delta.checkpointInterval": "10",
                "delta.dataSkippingNumIndexedCols": "-1",
                VERSION_PROPERTY: str(module.VERSION),
            },
            storage_options=storage_options(output_uri),
            raise_if_key_not_exists=False,
        )
    check_fits(table, name, schema)
    names = set(arrow_schema(table).names)
    missing = [column for column in schema if column.name not in names]
    if missing:
        table.alter.add_columns([Field.from_arrow(column) for column in missing])
        table = DeltaTable(table.table_uri, storage_options=storage_options(output_uri))
    if int(table.metadata().configuration[VERSION_PROPERTY]) < module.VERSION:
        table.alter.set_table_properties({VERSION_PROPERTY: str(module.VERSION)}, raise_if_not_exists=False)
        table = DeltaTable(table.table_uri, storage_options=storage_options(output_uri))
    return table


def check_fits(table: DeltaTable, name: str, schema: pa.Schema) -> None:
    """Raises TableConflict unless the table's partitions, version and column types fit `schema`."""
    module = TABLES[name]
    metadata = table.metadata()
    if metadata.partition_columns != module.PARTITION_BY:
        raise TableConflict(
            f"partitions of the table {name} must be {module.PARTITION_BY}; got {metadata.partition_columns}. "
            "They are fixed when a table is made: choose another --output"
        )
    version = metadata.configuration.get(VERSION_PROPERTY)
    if version is None or int(version) > module.VERSION:
        raise TableConflict(
            f"schema version of the table {name} must be at most {module.VERSION}; got {version}. "
            "It was made by a newer flowscore or by another program: use that, or choose another --output"
        )
    have = arrow_schema(table)
    names = set(have.names)
    for column in schema:
        if column.name in names and have.field(column.name).type != column.type:
            raise TableConflict(
                f"column {column.name} of the table {name} must be of type {column.type}; got "
                f"{have.field(column.name).type}. Rename the key in the key pattern, or choose another --output"
            )


def arrow_schema(table: DeltaTable) -> pa.Schema:
    """The table's columns with their meanings and units."""
    return pa.schema(table.schema().to_arrow())


def with_missing(have: pa.Schema, wanted: pa.Schema) -> pa.Schema:
    """The columns of a table, and behind them those of `wanted` that it lacks."""
    return pa.schema([*have, *(column for column in wanted if column.name not in have.names)])


def key_columns(source: SourceOptions) -> tuple[str, ...]:
    """The fields of an input's key pattern: columns of the scores table."""
    return tuple(key_pattern(source.key_pattern).fields) if source.key_pattern else ()


def score_schema(key_columns: Iterable[str]) -> pa.Schema:
    """The scores table's columns for a run whose key pattern has these fields.

    `date` and `lot` are columns already; `uri` and `member` hold `name`, the rest of the path.

    Raises:
        TableConflict: a key has the name of a fixed column.
    """
    keys = _own_columns(key_columns)
    taken = {name.lower() for name in (*scores.SCHEMA.names, *errors.SCHEMA.names)}
    for i, name in enumerate(keys):
        if name.lower() in taken | {other.lower() for other in keys[:i]}:
            raise TableConflict(
                f"key column must not have the name of another column of scores or errors; got {name!r}. "
                "Rename it in the key pattern"
            )
    return scores.with_keys(keys)


def error_schema(key_columns: Iterable[str]) -> pa.Schema:
    """The errors table's columns for the same run: key columns are those of `scores`."""
    return errors.with_keys(_own_columns(key_columns))


def _own_columns(key_columns: Iterable[str]) -> tuple[str, ...]:
    """The fields of a key pattern that are columns of their own."""
    return tuple(name for name in key_columns if name not in ("date", "lot", "name"))


def partition_path(partition: dict[str, str]) -> str:
    """`model=.../period=.../`, each value percent-encoded; empty for a table without partitions."""
    return "".join(f"{name}={quote(value, safe='')}/" for name, value in partition.items())


@retried
def table_files(table: DeltaTable | None) -> list[str]:
    """Paths of all current files below the table, in order."""
    return sorted(unquote(path) for path in pa.table(table.get_add_actions())["path"].to_pylist()) if table else []


@retried
def lacks_columns(table: DeltaTable) -> bool:
    """Whether a file may lack a column: it was written before the column was added, or by another program."""
    return any(found < files for found, files in _files_with(table))


def lacks_a_column_altogether(table: DeltaTable) -> bool:
    """Whether there may be a column that no file has: the files with a key of an earlier key pattern were all replaced."""
    return any(not found for found, _ in _files_with(table))


def _files_with(table: DeltaTable) -> list[tuple[int, int]]:
    """For each column that files count nulls of: how many say so, and how many files there are."""
    actions = pa.table(table.get_add_actions(flatten=True))
    counted = [column.name for column in arrow_schema(table) if not pa.types.is_binary(column.type)]
    names = [f"null_count.{name}" for name in counted if name not in table.metadata().partition_columns]
    files = actions.num_rows
    return [(files - actions[name].null_count if name in actions.column_names else 0, files) for name in names]


DELTA_RETRIES = "3"
"""Retries of a request within the Delta library, for a second; after that our own retries take over."""


def storage_options(uri: str | os.PathLike[str]) -> dict[str, str]:
    """`storage_options` for deltalake, from the same environment; empty for local paths.

    The credentials may expire: call it again for every transaction.
    """
    if isinstance(open_store(uri), LocalStore):
        return {}
    connection = current_connection()
    options = {"AWS_REGION": connection.region, "max_retries": DELTA_RETRIES}
    if connection.endpoint:
        options["AWS_ENDPOINT_URL"] = connection.endpoint
        options["AWS_ALLOW_HTTP"] = str(connection.endpoint.startswith("http://")).lower()
    if connection.unsigned:
        return options | {"AWS_SKIP_SIGNATURE": "true"}
    if not connection.credentials:
        return options
    frozen = connection.credentials.get_frozen_credentials()
    options |= {"AWS_ACCESS_KEY_ID": frozen.access_key, "AWS_SECRET_ACCESS_KEY": frozen.secret_key}
    return options | ({"AWS_SESSION_TOKEN": frozen.token} if frozen.token else {})
