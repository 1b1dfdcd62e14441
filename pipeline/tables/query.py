"""Shows the tables as SQL views in DuckDB, without a server or an extension.

All tables are opened at the versions of the last seal, so that no query sees half a publication. `maps` and `regions` show an
image only when `scores` has its row of the same work unit, which hides replaced maps. SQL sees these views and nothing
else, unless files are allowed.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa
from deltalake import DeltaTable

from pipeline.state.publications import Publications
from pipeline.tables import sql
from pipeline.tables.address import duckdb_address
from pipeline.tables.delta import TABLES, arrow_schema, lacks_a_column_altogether, lacks_columns, open_table, table_files
from pipeline.tables.faults import TablesError
from pipeline.tables.question import check_question

WRITTEN_WHEN = {
    "scores": "an image was scored",
    "maps": "an image was scored",
    "regions": "the model marks regions and an image has one",
    "errors": "an image could not be scored",
    "lots": "a calibrated model has scored a lot",
    "runs": "a scoring run is finished",
    "drift": "a calibrated model has scored a night of 20 images",
    "decisions": "a calibrated model scores, or a rate is changed",
}


class NoTables(TablesError, ValueError):
    """There is nothing to query under the output."""


class NotAnswered(TablesError, ValueError):
    """DuckDB cannot run the query over these tables."""


Answer = duckdb.DuckDBPyRelation
"""A query's rows, computed when they are asked for."""


@dataclass(frozen=True)
class Tables:
    """A DuckDB connection with a view for every table, a sentence for each empty one, and whether SQL may reach more."""

    connection: duckdb.DuckDBPyConnection
    empty: dict[str, str]
    allow_files: bool = False

    def __getitem__(self, name: str) -> Answer:
        """All rows of a table, read when they are asked for. Raises NoTables."""
        if name not in TABLES:
            raise NoTables(f"table must be one of {', '.join(TABLES)}; got {name!r}. Correct the name.")
        return self.connection.view(name)

    @contextmanager
    def answer(self, query: str) -> Iterator[Answer | None]:
        """The answer, readable inside the block; None for a statement without rows. Raises NotAnswered, NotAQuestion."""
        try:
            if not self.allow_files:
                check_question(self.connection, query)
            yield self.connection.sql(query)
        except duckdb.PermissionException as error:
            raise NotAnswered(
                f"query must keep to the tables {', '.join(TABLES)}; got {query!r}. DuckDB says: {error}. "
                "Let it reach other files with --allow-files"
            ) from error
        except duckdb.Error as error:
            raise NotAnswered(
                f"query must be SQL that DuckDB runs over these tables; got {query!r}. DuckDB says: {error}"
            ) from error


def open_tables(output_uri: str, scratch: Path | None = None, allow_files: bool = False) -> Tables:
    """Views scores, maps, regions, errors, lots, drift, decisions and runs, as of the last publication that is complete.

    A table without published rows is present, with its columns.

    Args:
        scratch: directory for queries that exceed the memory.
        allow_files: SQL may read and write whatever this process may, and change DuckDB's settings.
    Raises:
        NoTables: nothing was ever published under the output.
    """
    opened = open_sealed(output_uri)
    if not any(opened.values()):
        raise NoTables(
            f"output must hold tables that `flowscore score` has published; got {output_uri}, which has none. "
            "Score something into it, or correct the URI"
        )
    files = {name: _files(output_uri, name, table) for name, table in opened.items()}
    connection = sql.open_database(output_uri, scratch)
    if not allow_files:
        sql.lock(connection, [path for paths in files.values() for path in paths])
    empty = {}
    for name, table in sorted(opened.items(), key=lambda pair: pair[0] != "scores"):
        columns = TABLES[name].SCHEMA if table is None else arrow_schema(table)
        no_rows = f"empty_{name}"
        connection.register(no_rows, pa.Table.from_batches([], columns))
        source = _rows(table, files[name], no_rows)
        if source is None:
            empty[name] = f"{name} has no rows yet: it gets its first once {WRITTEN_WHEN[name]}"
            source = f"select * from {no_rows}"
        if name in ("maps", "regions"):
            source += " semi join scores using (model, date, unit_id, image_id)"
        connection.execute(f"create view {name} as {source}")
    return Tables(connection, empty, allow_files)


def open_sealed(output_uri: str) -> dict[str, DeltaTable | None]:
    """Every table at its version of the last seal: one snapshot over all of them. None for one without rows yet."""
    versions = Publications(output_uri).last_seal().versions

    def opened(name: str) -> DeltaTable | None:
        return open_table(output_uri, name, versions[name]) if name in versions else None

    with ThreadPoolExecutor(len(TABLES)) as pool:
        return dict(zip(TABLES, pool.map(opened, TABLES), strict=True))


def _files(output_uri: str, name: str, table: DeltaTable | None) -> list[str]:
    base = duckdb_address(output_uri, name)
    return [f"{base}/{path}" for path in table_files(table)]


def _rows(table: DeltaTable | None, files: list[str], no_rows: str) -> str | None:
    """SQL that reads a table's files with its columns in order; None when it has no files.

    Args:
        no_rows: name of a relation with the table's columns, where no file may have one of them.
    """
    if table is None or not files:
        return None
    columns = ", ".join(sql.name(column) for column in arrow_schema(table).names)
    options = "hive_partitioning = true, hive_types_autocast = false"
    if lacks_columns(table):
        options += ", union_by_name = true"
    source = f"read_parquet({sql.file_list(files)}, {options})"
    if lacks_a_column_altogether(table):
        source = f"(select * from {no_rows} union all by name select * from {source})"
    return f"select {columns} from {source}"
