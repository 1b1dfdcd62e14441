"""Query the tables in SQL: scores, maps, regions, errors, lots, drift, decisions, runs."""

import json
import re
import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field

from jobs.command.entry import run
from jobs.command.errors import UsageError
from jobs.command.flags import Argument, Flag, Named
from jobs.command.places import check_file
from pipeline.tables.query import Answer, Tables, open_tables

BATCH_ROWS = 10_000


class QuerySettings(BaseModel):
    """Settings of `flowscore query`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sql: Annotated[str, Argument()] = Field(
        description="for example: select uri, score from scores order by score desc limit 20"
    )
    output: Flag[str] = Field(description="where `flowscore score` has put the tables: s3://... or a directory")
    csv: Flag[bool] = Field(False, description="print CSV")
    json_lines: Annotated[bool, Named("--json")] = Field(False, description="print one JSON object a line")
    parquet: Flag[Path | None] = Field(None, description="write the result to this file and print nothing")
    rows: Flag[int] = Field(100, ge=1, description="most rows that a printed table shows")
    unpublished: Flag[bool] = Field(
        False, description="read errors and scores of the slices that are held or not published yet, each row with its `slice`"
    )
    allow_files: Flag[bool] = Field(False, description="let the SQL also read and write other files of this machine")


def main(settings: QuerySettings) -> None:
    """Query the tables in SQL. Binary columns (maps, embeddings) become hexadecimal digits in CSV and JSON."""
    forms = [settings.csv, settings.json_lines, settings.parquet is not None]
    if sum(forms) > 1:
        raise UsageError("the form of the result", "one of --csv, --json and --parquet", "several", "Give only one.")
    if settings.parquet is not None:
        check_file("--parquet", settings.parquet)
    with TemporaryDirectory(prefix="flowscore-query-") as scratch:
        tables = _opened(settings, Path(scratch))
        questions = tables.questions(settings.sql)
        if not questions and not settings.allow_files:
            raise UsageError(
                "the query", "a question, which asks for rows", settings.sql, "Begin with select, from or describe."
            )
        if any(forms) and questions != 1:
            fix = "Ask them one by one, or leave the form out: then each is printed as a table."
            raise UsageError("the query", "one question with --csv, --json and --parquet", f"{questions} questions", fix)
        with tables.answers(settings.sql) as answers:
            for answer in answers:
                if settings.parquet is not None:
                    _write_parquet(answer, settings.parquet)
                elif settings.csv:
                    _print_csv(answer)
                elif settings.json_lines:
                    _print_json(answer)
                else:
                    answer.show(max_rows=settings.rows, max_width=shutil.get_terminal_size((250, 25)).columns)


def _opened(settings: QuerySettings, scratch: Path) -> Tables:
    """The tables that the SQL may name. Notes on stderr say what is not in them."""
    if settings.unpublished:
        from pipeline.tables.unpublished import open_unpublished  # with all of publication, which most queries do without

        tables, notes = open_unpublished(settings.output, settings.sql, scratch, settings.allow_files)
    else:
        tables = open_tables(settings.output, scratch, settings.allow_files)
        notes = [note for name, note in tables.empty.items() if re.search(rf"\b{name}\b", settings.sql, re.IGNORECASE)]
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    return tables


def _write_parquet(answer: Answer, path: Path) -> None:
    reader = answer.to_arrow_reader(BATCH_ROWS)
    path.parent.mkdir(parents=True, exist_ok=True)
    with pq.ParquetWriter(path, reader.schema, compression="zstd") as writer:
        for batch in reader:
            writer.write_batch(batch)


def _print_csv(answer: Answer) -> None:
    reader = answer.to_arrow_reader(BATCH_ROWS)
    empty = _printable(pa.Table.from_batches([], reader.schema))
    with pyarrow.csv.CSVWriter(sys.stdout.buffer, empty.schema) as writer:
        for batch in reader:
            writer.write_table(_printable(pa.Table.from_batches([batch])))


def _print_json(answer: Answer) -> None:
    for batch in answer.to_arrow_reader(BATCH_ROWS):
        for row in _printable(pa.Table.from_batches([batch])).to_pylist():
            print(json.dumps(row, default=str))


def _printable(table: pa.Table) -> pa.Table:
    for i, column in enumerate(table.schema):
        if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
            digits = [None if cell is None else cell.hex() for cell in table[i].to_pylist()]
            table = table.set_column(i, column.name, pa.array(digits, pa.string()))
    return table


if __name__ == "__main__":
    run(main)
