"""Delta tables within an input: of their Parquet files only those are read that their newest version holds."""

from pipeline.input.delta_log import LOG, UnreadableTable, live_files
from pipeline.storage.store import Store


class DeltaTables:
    """Is told every key of a listing, in order. A table's log stands in the listing before the files whose names sort after
    `_delta_log/`; for the others storage is asked, once a folder.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._is_table: dict[str, bool] = {}  # folders around the key that was seen last
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
        """An object that is no image: a table's log is noticed here."""
        folder, log, _ = key.rpartition(LOG)
        if log and (not folder or folder.endswith("/")):
            self._is_table[folder] = True

    def finish(self) -> None:
        """All keys of the table have been seen. Raises UnreadableTable when a file of it is not there."""
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
