"""Reads the lists and tables that people make, as editors and Excel on any system save them."""

import codecs
import csv
import io
import re
from pathlib import Path
from typing import NamedTuple

from jobs.command.errors import UsageError

MARKS = (  # the longer first: UTF-32's mark begins with UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, "utf-8-sig"),
)
SEPARATORS = (",", ";", "\t")
LINE_END = re.compile("\r\n|\r|\n")
SAVE = "Save it as UTF-8"


class Row(NamedTuple):
    """One row of a table. line: its number in the file, from 1.  cells: without spaces around them."""

    line: int
    cells: tuple[str, ...]


def read_text(flag: str, path: Path, what: str = "text file") -> str:
    """The file's text without its byte order mark, which names the encoding; without a mark it is UTF-8.

    Raises:
        UsageError: the file cannot be read, or its bytes do not fit the encoding; the message names the first such byte.
    """
    try:
        body = path.read_bytes()
    except OSError as error:
        raise UsageError(flag, f"a readable {what}", str(path), f"{error.strerror}.") from error
    encoding = next((name for mark, name in MARKS if body.startswith(mark)), "utf-8")
    rule = f"a {what} in UTF-8, or in UTF-16 with a byte order mark"
    try:
        text = body.decode(encoding)
    except UnicodeDecodeError as error:
        raise UsageError(flag, rule, str(path), _undecodable(body, encoding, error)) from error
    if "\0" in text:
        raise UsageError(flag, rule, str(path), f"It has zero bytes, like UTF-16 without a mark or a binary file. {SAVE}.")
    return text


def read_lines(flag: str, path: Path) -> list[str]:
    """The lines without spaces around them; empty ones and those that start with # are left out."""
    lines = [line.strip() for line in LINE_END.split(read_text(flag, path))]
    return [line for line in lines if line and not line.startswith("#")]


def read_table(flag: str, path: Path, columns: tuple[str, ...]) -> list[Row]:
    """Rows of a CSV file below its header, each with at least as many cells as `columns`; empty rows are left out.

    The separator is a comma, a semicolon (Excel, if the comma is decimal) or a tab (Excel's Unicode text): the one that gives
    the header its columns. A first line `sep=;` is understood.

    Args:
        columns: the first is the name that the header must have; errors call the others by these names.
    """
    text = read_text(flag, path, "CSV file with a header")
    told = re.match("sep=(.)(?:\r\n|\r|\n)", text)
    separators = (told[1],) if told else SEPARATORS
    skipped = 1 if told else 0
    text = text[told.end() :] if told else text
    rule = f"a CSV file with the columns {' and '.join(columns)}"
    read = {separator: _rows(flag, path, text, separator, skipped) for separator in separators}
    rows = max(read.values(), key=lambda rows: len(rows[0].cells) if rows and _header(rows[0])[0] == columns[0] else 0)
    header = _header(rows[0]) if rows else ()
    if len(header) < len(columns) or header[0] != columns[0]:
        got = ", ".join(header) if header else "an empty file"
        raise UsageError(flag, rule, got, f"Name the first column of {path} {columns[0]}.")
    for row in rows[1:]:
        if len(row.cells) < len(columns):
            raise UsageError(flag, rule, ", ".join(row.cells), f"Complete line {row.line} of {path}.")
    return rows[1:]


def _rows(flag: str, path: Path, text: str, separator: str, skipped: int) -> list[Row]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    try:
        cells = [(reader.line_num, tuple(cell.strip() for cell in row)) for row in reader]
    except csv.Error as error:
        raise UsageError(flag, "a readable CSV file", str(path), f"Line {reader.line_num + skipped}: {error}.") from error
    return [Row(line + skipped, row) for line, row in cells if any(row)]


def _header(row: Row) -> tuple[str, ...]:
    return tuple(cell.casefold() for cell in row.cells)


def _undecodable(body: bytes, encoding: str, error: UnicodeDecodeError) -> str:
    if encoding not in ("utf-8", "utf-8-sig"):
        return f"It says {encoding.upper()} and is not: {error.reason}. {SAVE}."
    start = error.start + (len(codecs.BOM_UTF8) if encoding == "utf-8-sig" else 0)
    line = len(LINE_END.split(body[:start].decode("utf-8", "replace")))
    meant = body[start : start + 1].decode("cp1252", "replace")
    return f"Line {line} has the byte 0x{body[start]:02x}, which is {meant!r} in Windows-1252. {SAVE}."
