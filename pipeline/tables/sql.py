"""Runs DuckDB over Parquet files of the output, on this machine or on S3, in bounded memory; locks it for a user's SQL."""

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import duckdb
import pyarrow as pa

from pipeline.storage.store_files import StoreFiles
from pipeline.tables.address import duckdb_files

LATE_ROWS = 10_000
"""`order by ... limit N` reads the other columns of only the N rows, up to this N. DuckDB's own limit is 50: the worst
1,000 of 100 million images then took twice the time."""


def open_database(
    uri: str, scratch: Path | None = None, memory_mb: int = 1024, threads: int | None = None
) -> duckdb.DuckDBPyConnection:
    """A connection that can read the files below `uri`.

    Args:
        scratch: directory for what does not fit in memory; without one a query that needs more fails.
        memory_mb: limit of DuckDB's memory, MiB.
        threads: None: one per core.
    """
    return _connect(duckdb_files(uri), scratch, memory_mb, threads)


@contextlib.contextmanager
def connected(uri: str, scratch: Path, memory_mb: int = 1024) -> Iterator[duckdb.DuckDBPyConnection]:
    """The same while the block lasts. Raises the storage's own error when that made a query fail."""
    files = duckdb_files(uri)
    with _connect(files, scratch, memory_mb, None) as connection:
        try:
            yield connection
        except (duckdb.Error, pa.ArrowException, OSError) as error:
            if files is not None and files.fault is not None:
                raise files.fault from error
            raise


def _connect(files: StoreFiles | None, scratch: Path | None, memory_mb: int, threads: int | None) -> duckdb.DuckDBPyConnection:
    settings: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": f"{memory_mb}MiB",
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "python_enable_replacements": False,  # a table's name never refers to a variable of this program
        "temp_directory": "" if scratch is None else str(scratch),
    }
    if threads is not None:
        settings["threads"] = threads
    connection = duckdb.connect(config=settings)
    connection.execute("set TimeZone = 'UTC'")
    connection.execute(f"set late_materialization_max_rows = {LATE_ROWS}")
    if files is not None:
        connection.register_filesystem(files)
    return connection


def lock(connection: duckdb.DuckDBPyConnection, files: Iterable[str]) -> None:
    """Let the connection's SQL reach these files and its own scratch directory, and nothing else, for good.

    No other file, no network, no extension, no setting. DuckDB still lets SQL write to a file that it may read:
    pipeline/tables/question.py refuses such statements.
    """
    connection.execute(f"set allowed_paths = {file_list(files)}")
    connection.execute("set enable_external_access = false")
    connection.execute("set lock_configuration = true")


def literal(text: str) -> str:
    """A SQL string literal."""
    return "'" + text.replace("'", "''") + "'"


def name(column: str) -> str:
    """A SQL identifier."""
    return '"' + column.replace('"', '""') + '"'


def file_list(files: Iterable[str | Path]) -> str:
    """A SQL list of file names for `read_parquet`."""
    return "[" + ", ".join(literal(str(file)) for file in files) + "]"
