"""Delta tables within an input: only the Parquet files of their newest version are read."""

from pipeline.input.delta_log import LOG, UnreadableTable, live_files
from pipeline.storage.store import Store


class DeltaTables:
    """Receives every key of a listing, in order. A table's log is listed before files whose names sort after `_delta_log/`;
    for the others it asks storage, once per folder.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._is_table: dict[str, bool] = {}  # folders around the last key
        self._folder: str | None = None  # the table that is being listed
        self._unseen: set[str] = set()  # its files that have not been listed yet
        self._live: set[str] = set()

    def reads(self, key: str) -> bool:
        """Whether a Parquet file belongs to no table or is one of its table's files. Raises UnreadableTable."""
        folder = self._table_of(key)
        if folder is None:
            return True
        if folder != self._folder:
            self.finish()
            self._folder, self._live = folder, live_files(self._store, folder)
            self._unseen = set(self._live)
        self._unseen.discard(key)
        return key in self._live

    def pass_by(self, key: str) -> None:
        """Takes an object that is not an image, to notice a table's log."""
        folder, log, _ = key.rpartition(LOG)
        if log and (not folder or folder.endswith("/")):
            self._is_table[folder] = True

    def finish(self) -> None:
        """All keys of the table have been seen. Raises UnreadableTable when one of its files is missing."""
        if self._unseen:
            place = (self._folder or "").rstrip("/") or "."
            raise UnreadableTable(
                f"the Delta table {place!r} must have all files of its newest version; got none at {min(self._unseen)!r}. "
                "Restore it, or repair the table."
            )

    def _table_of(self, key: str) -> str | None:
        """The folder of the outermost table around the key."""
        self._is_table = {folder: is_table for folder, is_table in self._is_table.items() if key.startswith(folder)}
        parts = key.split("/")
        for depth in range(len(parts)):
            folder = "".join(f"{part}/" for part in parts[:depth])
            if folder not in self._is_table:
                passed = "/".join(parts[depth:]) > LOG  # then its log would have been listed
                self._is_table[folder] = not passed and next(iter(self._store.list(folder + LOG)), None) is not None
            if self._is_table[folder]:
                return folder
        return None
