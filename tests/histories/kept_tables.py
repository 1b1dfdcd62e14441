"""Keeps tables loaded from one publication of a history to the next: loading them is most of its time."""

from collections.abc import Callable

from deltalake import DeltaTable
from storage_faults import StorageFaults

from pipeline.storage.objects import retry
from pipeline.tables.delta import load_newest


class KeptTables:
    """A command has those of the one before it, as if both were one process; one at work in its pause has others."""

    def __init__(self, faults: StorageFaults) -> None:
        self._faults = faults
        self._tables: dict[tuple[int, str], DeltaTable] = {}

    def forget(self) -> None:
        """No process lives for days, or goes on to another command after a cleaning, which shortens logs."""
        self._tables.clear()

    def opened(self, real: Callable[[str, str], DeltaTable | None]) -> Callable[[str, str], DeltaTable | None]:
        def open_table(output_uri: str, name: str) -> DeltaTable | None:
            key = self._faults.depth, name
            table = self._tables.get(key)
            if table is not None:
                retry(lambda: load_newest(table))
                return table
            table = real(output_uri, name)
            if table is not None:
                self._tables[key] = table
            return table

        return open_table
