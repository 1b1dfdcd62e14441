"""The table of --groups, which says what piece each labelled image shows."""

from pathlib import Path

from jobs.command.errors import UsageError
from jobs.command.text_files import read_table
from jobs.images.names import plain, spellings


class PieceGroups:
    """Rows path,group: the path below the input, and the piece (the second column, under any name).

    lacking: images asked for so far that have no row; each is then a piece of its own.

    Raises:
        UsageError: the file is no such table, or gives an image two pieces.
    """

    def __init__(self, table: Path | None):
        self._table = table
        self._groups: dict[str, str] = {}
        self._lines: dict[str, str] = {}
        self._used: set[str] = set()
        self._without: set[str] = set()
        for row in read_table("--groups", table, ("path", "group")) if table is not None else []:
            path, group = row.cells[:2]
            for name in spellings(path):
                if self._groups.setdefault(name, group) != group:
                    rule = "a table that names each image once"
                    raise UsageError("--groups", rule, path, f"Line {row.line} of {table} gives it another group.")
                self._lines[name] = path

    @property
    def lacking(self) -> int:
        return len(self._without)

    def of(self, path: str) -> str:
        """The piece that the image shows; the image itself if there is no table, or no row for it."""
        if self._table is None:
            return path
        name = plain(path)
        if name not in self._groups:
            self._without.add(name)
            return path
        self._used.add(self._lines[name])
        return self._groups[name]

    def unused(self) -> int:
        """The number of rows that named no image."""
        return len(set(self._lines.values()) - self._used)
