"""Parses the Parquet files of a history in its own process: there are thousands, and the sealed one has tests."""

from pipeline.input.parquet.child import DAMAGED, Parsed, open_file
from pipeline.input.parquet.exchange import Cells, Open, Opened, Rows
from pipeline.input.parquet.parser import Unparsable
from pipeline.input.parquet_columns import NoSuchColumn
from pipeline.storage.ranged import RangedFile


class ParserHere:
    """In place of pipeline.input.parquet.parser.Parser, with its answers."""

    def __init__(self, parse: str, max_bytes: int) -> None:
        self.parse, self.max_bytes = parse, max_bytes
        self._parsed: Parsed | None = None

    def usable(self) -> bool:
        return True

    def ask(self, request: Open | Rows, file: RangedFile, max_cell_bytes: int) -> tuple[Opened | Cells, memoryview]:
        try:
            if isinstance(request, Open):
                self._parsed = Parsed(open_file(file, request), request)
                return self._parsed.footer(), memoryview(b"")
            assert self._parsed is not None
            cells, payload = self._parsed.next(request)
            return cells, memoryview(payload)
        except NoSuchColumn as error:
            raise Unparsable("unsupported", str(error)) from error
        except DAMAGED as error:
            raise Unparsable("corrupt_shard", f"the Parquet file cannot be read: {error}") from error

    def close_file(self) -> None:
        self._parsed = None

    def end(self) -> str:
        return ""
