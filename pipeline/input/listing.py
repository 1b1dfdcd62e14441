"""Lists the objects of an input that are read, in key order: every planner and every command without Ray starts here."""

from collections.abc import Iterator

from pipeline.input import registry
from pipeline.input.archives import archive_kind
from pipeline.input.config import LOOSE, SourceConfig
from pipeline.input.delta_tables import DeltaTables
from pipeline.input.listing_file import ListingFile
from pipeline.storage.objects import Object
from pipeline.storage.parallel_list import list_all
from pipeline.storage.store import Store, open_store


def open_input(config: SourceConfig) -> Store:
    """The store of the images, opened by the config. Raises BadUri."""
    return open_store(config.input_uri, config.follow_links)


class Listing:
    """The objects of the input that some source reads, in key order; counts the others.

    It leaves out hidden names, sidecars and litter, loose files that `members` does not select, and files of Delta tables
    outside the newest version. Raises UnreadableTable for a table that cannot be read.
    """

    def __init__(self, config: SourceConfig, store: Store, file: ListingFile | None = None) -> None:
        """file: what the input holds; without it storage is asked."""
        self._config, self._store, self._file = config, store, file
        self.ignored = 0

    def __iter__(self) -> Iterator[Object]:
        tables = DeltaTables(self._store)
        for entry in list_all(self._store) if self._file is None else self._file:
            source = registry.claiming(entry.key)
            if source is None:
                tables.pass_by(entry.key)
            asked = source is not None and taken(self._config, entry.key, source)
            if asked and (source != "parquet" or tables.reads(entry.key)):
                yield entry
            else:
                self.ignored += 1
        tables.finish()


def taken(config: SourceConfig, key: str, source: str) -> bool:
    """Whether an object of that source is read. Shards and archives pass by any name: `members` selects the images in them."""
    return source != LOOSE or config.wants(key) or archive_kind(key) is not None
