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
from pipeline.tables.delta import (
    TABLES,
    arrow_schema,
    lacks_a_column_altogether,
    lacks_columns,
    open_table,
    table_files,
    with_missing,
)
from pipeline.tables.faults import TablesError
from pipeline.tables.question import check_question, gives_rows

WRITTEN_WHEN = {
    "scores": "an image was scored",
    "maps": "an image was scored",
    "regions": "the model marks regions and an image has one",
    "errors": "an image could not be scored and its slice is published; `query --unpublished` shows what is held",
    "lots": "a calibrated model has scored a lot",
    "runs": "a scoring run is finished",
    "drift": "a calibrated model has scored a night of 20 images",
    "decisions": "a calibrated model scores, or a rate is changed",
}

KEYED = ("scores", "errors")
"""Tables with key columns."""
NO_ROWS = "no_rows"


class NoTables(TablesError, ValueError):
    """There is nothing to query under the output."""


class NotAnswered(TablesError, ValueError):
    """DuckDB cannot run the query over these tables."""


Answer = duckdb.DuckDBPyRelation
"""A query's rows, computed when they are asked for."""


@dataclass(frozen=True)
class Tables:
    """A DuckDB connection with a view for every table, a sentence for each empty one, and whether SQL may reach more.

    names: of the tables that SQL sees.
    """

    connection: duckdb.DuckDBPyConnection
    empty: dict[str, str]
    allow_files: bool = False
    names: tuple[str, ...] = tuple(TABLES)

    def __getitem__(self, name: str) -> Answer:
        """All rows of a table, read when they are asked for. Raises NoTables."""
        if name not in self.names:
            raise NoTables(f"table must be one of {', '.join(self.names)}; got {name!r}. Correct the name.")
        return self.connection.view(name)

    def questions(self, query: str) -> int:
        """How many statements of a query ask for rows. Raises NotAnswered, NotAQuestion."""
        with self._named(query):
            return sum(map(gives_rows, self._statements(query)))

    @contextmanager
    def answers(self, query: str) -> Iterator[Iterator[Answer]]:
        """The answers to its statements, one after another; only inside the block can they be read.

        Statements without rows are executed in their place. Raises NotAnswered, NotAQuestion.
        """
        with self._named(query):
            yield self._answers(query)

    @contextmanager
    def answer(self, query: str) -> Iterator[Answer | None]:
        """The last of the answers, readable inside the block; None if no statement asks for rows. Raises like `answers`."""
        with self.answers(query) as answers:
            yield [None, *answers][-1]

    def _answers(self, query: str) -> Iterator[Answer]:
        for statement in self._statements(query):
            if gives_rows(statement):
                yield self.connection.sql(statement)
            else:
                self.connection.execute(statement)

    def _statements(self, query: str) -> list[duckdb.Statement]:
        if not self.allow_files:
            check_question(self.connection, query)
        return self.connection.extract_statements(query)

    @contextmanager
    def _named(self, query: str) -> Iterator[None]:
        """Raises NotAnswered, in one line, for what DuckDB says."""
        try:
            yield
        except duckdb.Error as error:
            said, tables = " ".join(str(error).split()), ", ".join(self.names)
            if isinstance(error, duckdb.PermissionException):
                raise NotAnswered(
                    f"query must keep to the tables {tables}; got {query!r}. DuckDB says: {said}. "
                    "Let it reach other files with --allow-files"
                ) from error
            raise NotAnswered(
                f"query must be SQL that DuckDB runs over the tables {tables}; got {query!r}. DuckDB says: {said}"
            ) from error


def open_tables(output_uri: str, scratch: Path | None = None, allow_files: bool = False) -> Tables:
    """Views scores, maps, regions, errors, lots, drift, decisions and runs, as of the last publication that is complete.

    A table has all columns of its schema, also without published rows, and if an earlier flowscore made it. `scores` and
    `errors` have the same key columns.

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
            "Score something into it or correct the URI; `flowscore query --unpublished` reads what is scored and not published"
        )
    files = {name: _files(output_uri, name, table) for name, table in opened.items()}
    connection = sql.open_database(output_uri, scratch)
    if not allow_files:
        sql.lock(connection, [path for paths in files.values() for path in paths])
    empty, keys = {}, _key_columns(opened)
    for name, table in sorted(opened.items(), key=lambda pair: pair[0] != "scores"):
        schema = TABLES[name].SCHEMA if table is None else with_missing(arrow_schema(table), TABLES[name].SCHEMA)
        if name in KEYED:
            schema = with_missing(schema, keys)
        source = _rows(connection, table, files[name], schema)
        if source is None:
            empty[name] = f"{name} has no rows yet: it gets its first once {WRITTEN_WHEN[name]}"
            source = _no_rows(connection, schema)
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


def _key_columns(opened: dict[str, DeltaTable | None]) -> pa.Schema:
    """The key columns that either of KEYED has: the other may have got no row since a key pattern brought them."""
    found: dict[str, pa.Field] = {}
    for name in KEYED:
        if (table := opened[name]) is not None:
            others = (column for column in arrow_schema(table) if column.name not in TABLES[name].SCHEMA.names)
            found |= {column.name: column for column in others if pa.types.is_string(column.type)}
    return pa.schema(list(found.values()))


def _rows(connection: duckdb.DuckDBPyConnection, table: DeltaTable | None, files: list[str], schema: pa.Schema) -> str | None:
    """SQL that reads a table's files with these columns in order, null where a file lacks one; None when it has no files."""
    if table is None or not files:
        return None
    columns = ", ".join(sql.name(column) for column in schema.names)
    options = "hive_partitioning = true, hive_types_autocast = false"
    if lacks_columns(table):
        options += ", union_by_name = true"
    source = f"read_parquet({sql.file_list(files)}, {options})"
    if lacks_a_column_altogether(table) or len(schema) > len(arrow_schema(table)):
        source = f"({_no_rows(connection, schema)} union all by name select * from {source})"
    return f"select {columns} from {source}"


def _no_rows(connection: duckdb.DuckDBPyConnection, schema: pa.Schema) -> str:
    """SQL for no rows with these columns. It names no relation, so that `show tables` shows nothing of it."""
    connection.register(NO_ROWS, schema.empty_table())
    columns = connection.execute(f"describe {NO_ROWS}").fetchall()
    connection.unregister(NO_ROWS)
    nulls = ", ".join(f"null::{kind} as {sql.name(name)}" for name, kind, *_ in columns)
    return f"select * from (select {nulls} where false)"
