"""Ask the tables a question in SQL: scores, maps, regions, errors, lots, runs."""

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
import typer

from jobs.command.entry import run
from jobs.command.errors import UsageError
from pipeline.tables.query import Answer, connect

BATCH_ROWS = 10_000


def main(
    sql: Annotated[str, typer.Argument(help="For example: select uri, score from scores order by score desc limit 20")],
    output: Annotated[str, typer.Option(help="Where `flowscore score` has put the tables: s3://... or a directory.")],
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    json_lines: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
    parquet: Annotated[Path | None, typer.Option(help="Write the result to this file instead.")] = None,
    rows: Annotated[int, typer.Option(min=1, help="Rows that a printed table shows at most.")] = 100,
    allow_files: Annotated[
        bool, typer.Option("--allow-files", help="Let the SQL also read and write other files of this machine.")
    ] = False,
) -> None:
    """Ask the tables a question in SQL. Binary columns (maps, embeddings) become hexadecimal digits in CSV and JSON."""
    if csv + json_lines + (parquet is not None) > 1:
        raise UsageError("the form of the result", "one of --csv, --json and --parquet", "several", "Give one.")
    with TemporaryDirectory(prefix="flowscore-query-") as scratch:
        tables = connect(output, Path(scratch), allow_files)
        for name, sentence in tables.empty.items():
            if re.search(rf"\b{name}\b", sql, re.IGNORECASE):
                print(f"note: {sentence}", file=sys.stderr)
        with tables.answer(sql) as answer:
            if answer is None:
                return
            if parquet is not None:
                _write_parquet(answer, parquet)
            elif csv:
                _print_csv(answer)
            elif json_lines:
                _print_json(answer)
            else:
                answer.show(max_rows=rows, max_width=shutil.get_terminal_size((250, 25)).columns)


def _write_parquet(answer: Answer, path: Path) -> None:
    reader = answer.to_arrow_reader(BATCH_ROWS)
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
