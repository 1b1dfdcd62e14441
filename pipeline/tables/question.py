"""Tells which SQL is a question: it reads tables and writes no file, not even one that its connection may open."""

import re

import duckdb

from pipeline.tables.faults import TablesError

ALLOWED = {duckdb.StatementType.SELECT, duckdb.StatementType.CREATE}
"""CREATE makes temporary tables, views and macros in memory, for questions of several statements."""

EXPLAIN = re.compile(r"\s*explain\s+(?:analyze\s+|\([^()]*\)\s*)?", re.IGNORECASE)


class NotAQuestion(TablesError, ValueError):
    """The SQL does something instead of asking."""


def gives_rows(statement: duckdb.Statement) -> bool:
    """Whether the statement asks for rows; `create temp table t as select ...` does not."""
    may_give = duckdb.ExpectedResultType.QUERY_RESULT in statement.expected_result_type
    return may_give and _kind(statement) != duckdb.StatementType.CREATE


def check_question(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    """Raises NotAQuestion unless every statement reads; duckdb.Error when it cannot be parsed."""
    for statement in connection.extract_statements(sql):
        kind = _kind(statement)
        if not _asks(connection, statement):
            raise NotAQuestion(
                f"query must ask (select, with, from, describe, explain, create temp table); got {statement.query.strip()!r}, "
                f"of the kind {kind.name.lower() if kind else 'other'}. Let it read and write other files with --allow-files"
            )


def _asks(connection: duckdb.DuckDBPyConnection, statement: duckdb.Statement) -> bool:
    kind = _kind(statement)
    if kind == duckdb.StatementType.EXPLAIN:  # `explain analyze copy` copies
        return all(
            _kind(inner) in ALLOWED for inner in connection.extract_statements(EXPLAIN.sub("", statement.query, count=1))
        )
    if kind == duckdb.StatementType.MULTI:  # a pivot, perhaps within a copy; brackets accept only a question
        try:
            return len(connection.extract_statements(f"select * from (\n{statement.query.strip().rstrip(';')}\n)")) == 1
        except duckdb.ParserException:
            return False
    return kind in ALLOWED


def _kind(statement: duckdb.Statement) -> duckdb.StatementType | None:
    """None for the kinds that DuckDB has and its Python binding cannot name."""
    try:
        return statement.type
    except ValueError:
        return None
