"""Which piece each labelled image shows: the table of `--groups`."""

import csv
from pathlib import Path

from jobs.command.errors import UsageError


def read_groups(table: Path | None) -> dict[str, str]:
    """path,group rows: the path below the input, and the piece (second column, whatever its name)."""
    if table is None:
        return {}
    try:
        with open(table, newline="", encoding="utf-8") as file:
            header, *rows = list(csv.reader(file))
    except (OSError, ValueError) as error:
        raise UsageError("--groups", "a readable CSV file with a header", str(table), f"{error}.") from error
    if len(header) < 2 or header[0] != "path":
        raise UsageError("--groups", "a CSV file with columns path and group", header, "Name the first column path.")
    return {row[0]: row[1] for row in rows}


def group_of(groups: dict[str, str], key: str, table: Path | None) -> str:
    """The image's piece; the image itself without a table."""
    if table is None:
        return key
    if key not in groups:
        raise UsageError("--groups", "a table that has every image", key, f"Add a row for it to {table}.")
    return groups[key]
