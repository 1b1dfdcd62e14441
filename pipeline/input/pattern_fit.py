"""What a key pattern reads from the first paths of an input, so that one that does not fit is seen before any work begins."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from pipeline.input import registry
from pipeline.input.config import LOOSE, SourceConfig, Start
from pipeline.input.keys import REST, key_pattern
from pipeline.input.listing import open_input, taken
from pipeline.input.listing_file import ListingFile
from pipeline.input.parquet_columns import NoSuchColumn
from pipeline.storage.objects import Object
from pipeline.storage.store import ReadStore, Store

LOOKED_AT = 1000  # objects: what one LIST answers
FURTHER = 8  # LISTs where the pattern fits none of them, each beyond a larger folder
LISTED = 100_000  # rows of a ready listing that are read until the pattern fits one
SHARDS_OPENED = 3
SHARD_BYTES = 16 << 20  # of a shard: a member that is far behind is not worth more
PIECE_BYTES = 1 << 20  # of one request: mostly the first is enough
CUT = ("truncated", "corrupt_shard")  # what a source says of a stream that ends early
MEMBER = "member"  # stands for any name


class PathRead(NamedTuple):
    """What the pattern reads from one image or shard.

    path: below the input, with the member where a shard was opened.  keys: values by field without those that are null; None if
    the pattern does not fit.  date: the production day.  folders: those within {name}, for example `cam1/left`.
    """

    path: str
    keys: dict[str, str] | None
    date: str
    folders: str


@dataclass(frozen=True)
class PatternFit:
    """read: in key order.  unopened: shards that only members could tell of, and that were not opened, or not far enough.
    listed: objects that were looked at.  more: whether the input holds others."""

    source: SourceConfig
    read: list[PathRead]
    unopened: int
    listed: int
    more: bool

    @property
    def fitting(self) -> list[PathRead]:
        return [path for path in self.read if path.keys is not None]


def pattern_fit(source: SourceConfig, listing: ListingFile | None = None) -> PatternFit:
    """Try the source's pattern on the images and shards among the first 1,000 objects: one LIST.

    Of a shard that its own path does not decide, a member's name is read; of three such shards at most, and in a tar's first
    16 MiB. If nothing fits, or no object is an image, some objects further on are tried too: litter or a stray folder may stand
    first.

    Args:
        listing: a ready one instead of LISTs.
    """
    assert source.key_pattern is not None
    store = open_input(source)
    read: list[PathRead] = []
    unopened = listed = 0
    more = False
    for page in _rows(listing) if listing is not None else _pages(store):
        listed, more = listed + len(page), more or len(page) == LOOKED_AT
        found, undecided = _by_paths(source, page)
        for entry in (chosen := _spread(undecided)):
            beginning = _Beginning(store)
            if (path := _opened(source, store, beginning, entry)) is not None:
                found.append(path)
            elif beginning.cut:
                unopened += 1
        unopened += len(undecided) - len(chosen)
        read += sorted(found, key=lambda path: path.path)
        if any(path.keys is not None for path in read):
            break
    return PatternFit(source, read, unopened, listed, more)


def path_read(source: SourceConfig, key: str, member: str | None, date: str) -> PathRead:
    """What the path of one image tells, of a shard's member too."""
    pattern, member = key_pattern(source.key_pattern or ""), None if member is None else member.removeprefix("./")
    joined = None if member is None else pattern.match(f"{key}/{member}")
    whole = joined or pattern.match(key)
    keys = None if whole is None else source.keys(key, member)
    folders = _folders((whole or {}).get(REST, "").removesuffix(f"/{member}"))
    return PathRead(key if member is None else f"{key}/{member}", keys, date, folders)


def _pages(store: Store) -> Iterator[list[Object]]:
    """The first objects; then the first beyond the folder of the last one, beyond the folder around that, and so on."""
    after: str | None = None
    for wider in range(FURTHER + 1):
        page = list(islice(store.list(start_after=after), LOOKED_AT))
        yield page
        if len(page) < LOOKED_AT:
            return
        folders = page[-1].key.split("/")[:-1]
        kept = folders[: max(1, len(folders) - wider)]
        after = "/".join(kept) + "0" if kept else page[-1].key  # "0" is the character after "/"


def _rows(listing: ListingFile) -> Iterator[list[Object]]:
    rows = islice(listing.as_written(), LISTED)
    while page := list(islice(rows, LOOKED_AT)):
        yield page


def _by_paths(source: SourceConfig, page: list[Object]) -> tuple[list[PathRead], list[Object]]:
    """What the paths of images and shards tell, and the shards whose paths do not."""
    pattern = key_pattern(source.key_pattern or "")
    any_member = pattern.pattern.endswith(f"{{{REST}}}")  # whatever a shard's members are called
    found, undecided = [], []
    for entry in page:
        kind = registry.claiming(entry.key)
        if kind is None or not taken(source, entry.key, kind):
            continue
        shard = kind != LOOSE
        path = path_read(source, entry.key, MEMBER if shard and any_member else None, source.day(entry.key, shard))
        if shard and path.keys is None:
            undecided.append(entry)
        else:
            found.append(path._replace(path=entry.key))
    return found, undecided


class _Beginning:
    """A store whose streams end early, a piece at a time.  cut: whether one did."""

    def __init__(self, store: ReadStore) -> None:
        self.uri, self.cut, self._store, self._left = store.uri, False, store, SHARD_BYTES
        self.get, self.get_range, self.get_tail = store.get, store.get_range, store.get_tail

    def open_stream(self, key: str, start: int = 0, etag: str | None = None) -> Iterator[bytes]:
        while self._left > 0:
            asked = min(PIECE_BYTES, self._left)
            piece = self._store.get_range(key, start, asked, etag)
            if piece:
                yield piece
            if len(piece) < asked:
                return
            self._left, start = self._left - asked, start + asked
        self.cut = True


def _opened(source: SourceConfig, store: Store, beginning: _Beginning, entry: Object) -> PathRead | None:
    """What the path of a shard's first image tells; None for a shard without any that can be read."""
    kind = registry.claiming(entry.key) or ""
    one = source.model_copy(update={"unit_images": 1, "max_member_bytes": 1})  # only names are wanted
    try:
        for unit in registry.source(kind).plan(iter([one.dated(entry, kind)]), one, store):
            for part in registry.source(kind).read(unit, beginning, one, Start()):
                for member, error in zip(part.table["member"].to_pylist(), part.table["error"].to_pylist(), strict=True):
                    if member is not None and not (beginning.cut and error in CUT):  # else it is a fault of the shard
                        return path_read(source, entry.key, member, unit.date)
    except NoSuchColumn:  # the run says it, if it is no single stray file
        return None
    return None


def _spread(entries: list[Object]) -> list[Object]:
    """At most SHARDS_OPENED of them: the first, the last and some between."""
    last = len(entries) - 1
    places = {last * place // (SHARDS_OPENED - 1) for place in range(SHARDS_OPENED)} if entries else set()
    return [entries[place] for place in sorted(places)]


def _folders(name: str) -> str:
    return name.rpartition("/")[0]
