"""A ready listing of the input, as `score --listing FILE` takes it instead of LIST requests."""

import csv
import errno
import random
import re
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.input.faults import InputError
from pipeline.storage.objects import Denied, Object, listed
from pipeline.storage.store import Store

COLUMNS = ("key", "size", "etag")
STAMP = "stamp"
LOOKED_AT = 8  # objects of the listing that are compared with storage
BATCH_ROWS = 10_000
ETAG = re.compile(r"[!#-~]+")  # printable ASCII without quotes and spaces
SIZE = re.compile(r"[0-9]{1,18}")
INSERT = "insert into objects values (?, ?, ?, ?)"


class BadListing(InputError, ValueError):
    """A file of --listing that is no listing of the input."""


class ListingFile:
    """Objects of a Parquet file, or of a CSV file with a header in UTF-8; columns key, size, etag and perhaps stamp.

    key: below the input, as it is, not URL-encoded.  size: bytes.  etag: without quotes.  Rows in another order than that of
    the keys' UTF-8 bytes are sorted in a temporary file. Opening the file reads it once, to check it.
    """

    def __init__(self, path: Path) -> None:
        """Raises BadListing."""
        self._path, self._sorted = path, True
        self._sample: list[Object] = []
        last, choose = "", random.Random(0)
        for number, entry in enumerate(self._rows()):
            if entry.key == last:
                raise self._twice(entry.key)
            self._sorted = self._sorted and entry.key > last
            last = entry.key
            if number < LOOKED_AT:
                self._sample.append(entry)
            elif (place := choose.randrange(number + 1)) < LOOKED_AT:
                self._sample[place] = entry
        if not self._sorted:
            for _ in self._in_order():  # finds keys that stand twice
                pass

    def __iter__(self) -> Iterator[Object]:
        """The objects in UTF-8 byte order of the key."""
        return self._rows() if self._sorted else self._in_order()

    def as_written(self) -> Iterator[Object]:
        """The objects in the order of the file."""
        return self._rows()

    def check(self, store: Store) -> None:
        """Raises BadListing if none of a few objects is in the store as listed: of another place, or with other etags.

        A store that refuses to list is not asked further.
        """
        for entry in self._sample:
            try:
                found = listed(store, entry.key)
            except Denied:
                return
            if found is not None and found[:3] == entry[:3]:
                return
        if self._sample:
            there = "is not there" if found is None else f"has {found.size} bytes and etag {found.etag!r}"
            raise self._wrong(
                f"hold objects of {store.uri} as storage lists them",
                f"{entry.key!r} of {entry.size} bytes with etag {entry.etag!r}, which {there}",
                f"None of {len(self._sample)} that were looked at is right; keys are relative to --input",
            )

    def _in_order(self) -> Iterator[Object]:
        """Sorted by SQLite: memory holds 64 MiB, a temporary file the rest. Raises BadListing for a key that stands twice."""
        last: str | None = None
        with tempfile.TemporaryDirectory(prefix="flowscore-listing-") as folder:
            with closing(sqlite3.connect(Path(folder) / "listing", isolation_level=None)) as database:
                try:
                    for name, size, etag, stamp in self._sorted_by(database):
                        if name == last:
                            raise self._twice(name)
                        yield Object(name, size, etag, stamp)
                        last = name
                except sqlite3.OperationalError as error:
                    if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
                        raise OSError(errno.ENOSPC, "no room to sort the listing") from error
                    raise

    def _sorted_by(self, database: sqlite3.Connection) -> Iterator[tuple[str, int, str, str]]:
        for setting in ("journal_mode = off", "synchronous = off", "temp_store = file", "cache_size = -65536"):
            database.execute(f"pragma {setting}")
        database.execute("create table objects (key blob, size integer, etag text, stamp text)")
        database.execute("begin")
        database.executemany(INSERT, ((entry.key.encode(), *entry[1:]) for entry in self._rows()))
        database.execute("commit")
        for key, size, etag, stamp in database.execute("select * from objects order by key"):  # blobs sort by their bytes
            yield key.decode(), size, etag, stamp

    def _rows(self) -> Iterator[Object]:
        try:
            yield from self._from_parquet() if self._path.suffix.lower() in (".parquet", ".pq") else self._from_csv()
        except (OSError, UnicodeDecodeError, csv.Error, pa.ArrowException) as error:
            raise self._wrong("be a CSV file in UTF-8 or a Parquet file", str(error), "Correct it") from error

    def _from_csv(self) -> Iterator[Object]:
        with open(self._path, encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file, strict=True)
            header = next(rows, [])
            places = self._columns(header)
            for row in rows:
                if len(row) != len(header):
                    raise self._wrong(
                        f"have {len(header)} columns in each line", f"{len(row)} in line {rows.line_num}", "Correct it"
                    )
                yield self._object([row[place] for place in places], f"line {rows.line_num}")

    def _from_parquet(self) -> Iterator[Object]:
        with pq.ParquetFile(self._path) as file:
            names = file.schema_arrow.names
            chosen = [names[place] for place in self._columns(names)]
            number = 0
            for batch in file.iter_batches(BATCH_ROWS, columns=chosen):
                for row in zip(*(batch[name].to_pylist() for name in chosen), strict=True):
                    number += 1
                    yield self._object(list(row), f"row {number}")

    def _columns(self, header: list[str]) -> list[int]:
        """Where the columns stand."""
        if missing := [name for name in COLUMNS if name not in header]:
            got = ",".join(header)[:200]
            raise self._wrong(f"have the columns {', '.join(COLUMNS)}", got, f"Add {', '.join(missing)}")
        return [header.index(name) for name in (*COLUMNS, *([STAMP] if STAMP in header else []))]

    def _object(self, row: list[Any], where: str) -> Object:
        key, size, etag, stamp = row if len(row) > len(COLUMNS) else [*row, ""]
        if not isinstance(key, str) or not key:
            raise self._wrong("name a key in each row", f"{key!r} in {where}", "Correct it")
        if not SIZE.fullmatch(str(size)):
            raise self._wrong("give each size in bytes", f"{size!r} in {where}", "Correct it")
        if not isinstance(etag, str) or not ETAG.fullmatch(etag):
            raise self._wrong(
                "give each etag without quotes", f"{etag!r} in {where}", "Write it as a LIST answers, without quotes"
            )
        return Object(key, int(size), etag, str(stamp or ""))

    def _twice(self, key: str) -> BadListing:
        return self._wrong("name each key once", f"{key!r} twice", "List one version of each object")

    def _wrong(self, rule: str, got: str, fix: str) -> BadListing:
        return BadListing(f"--listing {self._path} must {rule}; got {got}. {fix}.")
