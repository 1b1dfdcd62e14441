"""DuckDB over Parquet files of the output, on this machine or on S3, with bounded memory."""

from collections.abc import Iterable
from pathlib import Path

import duckdb

from pipeline.storage import filesystem


def connect(
    uri: str, scratch: Path | None = None, memory_mb: int = 1024, threads: int | None = None
) -> duckdb.DuckDBPyConnection:
    """A connection that can read the files below `uri`.

    Args:
        scratch: directory for what does not fit in memory; without one a query that needs more fails.
        memory_mb: limit of DuckDB's memory, MiB.
        threads: None takes one a core.
    """
    settings: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": f"{memory_mb}MiB",
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    if scratch is not None:
        settings["temp_directory"] = str(scratch)
    if threads is not None:
        settings["threads"] = threads
    connection = duckdb.connect(config=settings)
    connection.execute("set TimeZone = 'UTC'")
    if "://" in uri and not uri.startswith("file://"):
        connection.register_filesystem(filesystem(uri))
    return connection


def literal(text: str) -> str:
    """A SQL string literal."""
    return "'" + text.replace("'", "''") + "'"


def name(column: str) -> str:
    """A SQL identifier."""
    return '"' + column.replace('"', '""') + '"'


def file_list(files: Iterable[str | Path]) -> str:
    """A SQL list of file names for `read_parquet`."""
    return "[" + ", ".join(literal(str(file)) for file in files) + "]"
