"""A directory on this machine (or a mount) as a store."""

import contextlib
import errno
import logging
import os
import re
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from stat import S_ISREG
from typing import TypeVar

from pipeline.storage.objects import (
    RANGE_BYTES,
    BadUri,
    Changed,
    Denied,
    Gone,
    Object,
    Refused,
    Unreachable,
    retry,
    unless_refused,
)

Result = TypeVar("Result")
Keys = list[str]
PARTIAL = ".flowscore-partial"  # suffix of files that are being written; never listed
UNFINISHED_S = 86_400  # no write takes longer
MISSING = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP}
ESCAPED = re.compile(rb"\\x(5c|[89a-f][0-9a-f])")  # a byte of a file name that a key cannot hold unchanged
REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EOPNOTSUPP, errno.EEXIST}

log = logging.getLogger(__name__)


class LocalStore:
    """Keys are paths below `root` with `/`; bytes of a file name that are not UTF-8 appear as `\\xNN`, and so does
    the backslash of a name that already reads like that, so that no two names share a key.

    Symbolic links to directories are not followed, links to files only where the target lies below the root; the listing
    leaves out the others, and paths too long to open, with a warning. `follow_links` follows every link except one that
    leads to a folder that contains it. The etag is modification time and size: the inode is unstable on network mounts,
    and chmod alters the change time.
    """

    def __init__(self, root: str, follow_links: bool = False):
        self._follow_links = follow_links
        self._said: Keys = []  # links that a listing has named already
        self.root = os.path.abspath(root)
        self._real_root = os.fsencode(os.path.realpath(root)).rstrip(b"/") + b"/"
        self.uri = "file://" + self.root.rstrip("/")
        if os.path.exists(self.root) and not os.path.isdir(self.root):
            raise BadUri(f"uri must be a directory; got the file {root!r}. Give the directory that holds it.")

    def list(self, prefix: str = "", start_after: str | None = None) -> Iterator[Object]:
        """Files whose key starts with `prefix` and is greater than `start_after`, in UTF-8 byte order of the whole key.

        A directory that does not exist is an empty listing, as on S3.
        """
        top = prefix.rpartition("/")[0]
        try:
            directory = os.fsencode(self._path(top))
        except Gone:
            return
        if not top or self._is_inside(directory):
            left_out: Keys = []
            yield from self._walk(directory, f"{top}/" if top else "", prefix, start_after or "", left_out)
            if left_out and left_out != self._said:
                self._said = left_out
                why = "outside, to a directory or nowhere; --follow-links follows those that lead to something"
                why = "nowhere, or to a directory that they stand in" if self._follow_links else why
                log.warning(
                    "%d links below %s are not followed, such as %s: they lead %s", len(left_out), self.uri, left_out[0], why
                )

    def links_left_out(self) -> int:
        """How many links a listing leaves out."""
        left_out: Keys = []
        for _ in self._walk(os.fsencode(self.root), "", "", "", left_out):
            pass
        return len(left_out)

    def get(self, key: str, etag: str | None = None, size: int | None = None) -> bytes:
        """The whole object. Raises Gone, Changed (when `etag` or `size` is given and differs), Denied, Unreachable."""
        body = self._read(key, 0, None, etag)[0]
        if size not in (None, len(body)):
            raise Changed(f"{key!r} below {self.uri} was changed since it was listed: {len(body)} bytes instead of {size}")
        return body

    def get_range(self, key: str, start: int, length: int, etag: str | None = None) -> bytes:
        """`length` bytes from `start`, fewer at the end of the object. Errors as for `get`."""
        return self._read(key, start, start + length, etag)[0]

    def get_tail(self, key: str, length: int, etag: str | None = None) -> tuple[bytes, int]:
        """The last `length` bytes (all of a smaller object) and the object's size. Errors as for `get`."""
        return self._read(key, -length, None, etag)

    def open_stream(self, key: str, start: int = 0, etag: str | None = None) -> Iterator[bytes]:
        """The object from byte `start` on, in pieces of at most 16 MiB. Errors as for `get`, at any piece."""
        while piece := self.get_range(key, start, RANGE_BYTES, etag):
            yield piece
            start += len(piece)

    def put(self, key: str, body: bytes) -> None:
        """Write the whole object; replaces one with that key."""

        def call() -> None:
            with self._partial(key, iter([body])) as (partial, path):
                os.replace(partial, path)

        retry(call)

    def put_new(self, key: str, body: bytes) -> bool:
        """Write the whole object unless the key exists; False when it did. A kill leaves all of it or nothing."""
        return retry(lambda: self._link_new(key, iter([body])))

    def put_new_file(self, key: str, path: str | os.PathLike[str]) -> bool:
        """`put_new` with the content of a local file."""

        def call() -> bool:
            with open(path, "rb") as file:
                return self._link_new(key, iter(lambda: file.read(RANGE_BYTES), b""))

        return retry(call)

    def delete(self, key: str) -> None:
        """Remove the object; no error when it does not exist."""
        with contextlib.suppress(Gone):
            self._attempt(key, lambda: os.unlink(self._path(key)))

    def _walk(self, directory: bytes, base: str, prefix: str, start_after: str, left_out: Keys) -> Iterator[Object]:
        """As `list`; adds keys of links that are not followed to `left_out`."""
        begin = b"" if "\\" in prefix else prefix[len(base) :].encode(errors="replace")
        levels = [(base, self._real(directory), iter(self._entries(directory, base, begin)))]  # a stack, not calls
        while levels:
            base, _, entries = levels[-1]
            name, entry = next(entries, (None, None))
            if entry is None:
                levels.pop()
                continue
            key = f"{base}{name}"
            if self._is_directory(entry):
                below = key  # ends in "/"
                passed = start_after > below and not start_after.startswith(below)
                if passed or not (below.startswith(prefix) or prefix.startswith(below)):
                    continue
                real = self._real(entry.path)
                if real and any(real == above for _, above, _ in levels):  # following it would never end
                    left_out.append(key)
                    continue
                levels.append((below, real, iter(self._entries(entry.path, below))))
            elif key.startswith(prefix) and key > start_after:
                if entry.is_symlink() and not (self._is_inside(entry.path) and os.path.isfile(entry.path)):
                    left_out.append(key)
                    continue
                with contextlib.suppress(Gone):  # deleted between listing and stat, or its path is too long
                    found = self._attempt(key, entry.stat)
                    yield Object(key, found.st_size, _etag(found), f"{found.st_ctime_ns:x}")

    def delete_unfinished(self) -> int:
        """Delete the leftovers of writers that were killed a day ago or earlier; returns how many files."""
        deleted = 0
        for folder, _, names in os.walk(self.root):
            for name in names:
                path = Path(folder, name)
                with contextlib.suppress(FileNotFoundError):  # its writer has just finished
                    if name.endswith(PARTIAL) and path.stat().st_mtime < time.time() - UNFINISHED_S:
                        path.unlink()
                        deleted += 1
        return deleted

    def _entries(self, directory: bytes, base: str, begin: bytes = b"") -> Sequence[tuple[str, os.DirEntry[bytes]]]:
        """Entries in key order whose name begins so: a directory sorts with its slash (`a.txt` < `a/` < `a0`)."""

        def call() -> list[tuple[str, os.DirEntry[bytes]]]:
            with os.scandir(directory) as entries:
                return [
                    (_text(entry.name) + "/" * self._is_directory(entry), entry)
                    for entry in entries
                    if entry.name.startswith(begin)
                    and not entry.name.endswith(PARTIAL.encode())
                    and (entry.is_dir(follow_symlinks=False) or entry.is_file(follow_symlinks=False) or entry.is_symlink())
                ]

        try:
            named = self._attempt(base, call)
        except Gone as gone:
            if isinstance(gone.__cause__, OSError) and gone.__cause__.errno == errno.ENAMETOOLONG:
                log.warning("not listed: the path of %.80s... below %s is too long", base, self.uri)
            return []
        return sorted(named, key=lambda pair: pair[0])  # str order is code point order is UTF-8 byte order

    def _is_directory(self, entry: os.DirEntry[bytes]) -> bool:
        """Whether the walk enters it; a link in a circle is not a directory."""
        return entry.is_dir(follow_symlinks=False) or (self._follow_links and entry.is_symlink() and os.path.isdir(entry.path))

    def _real(self, directory: bytes) -> bytes | None:
        """The real path of a directory, where links may lead to it from several places."""
        return os.path.realpath(directory) if self._follow_links else None

    def _is_inside(self, path: bytes) -> bool:
        return self._follow_links or os.path.realpath(path).startswith(self._real_root)

    def _path(self, key: str) -> str:
        parts = key.split("/")
        if key and ("" in parts or "." in parts or ".." in parts or "\0" in key):
            raise Gone(f"{key!r} is no path below {self.uri}")
        name = os.fsdecode(ESCAPED.sub(lambda found: bytes([int(found[1], 16)]), key.encode()))
        return os.path.join(self.root, name) if key else self.root

    def _read(self, key: str, start: int, end: int | None, etag: str | None) -> tuple[bytes, int]:
        """Bytes from `start` (negative: from the end) to `end`, and the size of the whole file."""

        def opened() -> tuple[bytes, int]:
            path = os.path.realpath(os.fsencode(self._path(key)))
            if not self._is_inside(path):
                raise Gone(f"{key!r} leads outside {self.uri}")
            with open(path, "rb", buffering=0, opener=_no_link_no_wait) as file:
                stat = os.fstat(file.fileno())
                if not S_ISREG(stat.st_mode):
                    raise Gone(f"{key!r} below {self.uri} is no plain file")
                first = start if start >= 0 else max(0, stat.st_size + start)
                last = stat.st_size if end is None else min(end, stat.st_size)
                body = bytearray()
                file.seek(first)
                while len(body) < last - first and (piece := file.read(last - first - len(body))):
                    body += piece
                if etag is not None and not etag == _etag(stat) == _etag(os.fstat(file.fileno())):
                    raise Changed(f"{key!r} below {self.uri} was changed since it was listed")
                return bytes(body), stat.st_size

        def call() -> tuple[bytes, int]:
            try:
                return opened()
            except PermissionError as error:
                raise Refused(f"{key!r} below {self.uri}: {error.strerror}") from error

        return unless_refused(lambda: self._attempt(key, call), self, key, etag)

    @contextlib.contextmanager
    def _partial(self, key: str, pieces: Iterator[bytes]) -> Iterator[tuple[str, str]]:
        """A finished file under a temporary name in the target's directory, and the target's path."""
        path = self._path(key)
        partial = os.path.join(os.path.dirname(path), uuid.uuid4().hex + PARTIAL)
        try:
            with self._errors(key):
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with open(partial, "xb") as file:
                    for piece in pieces:
                        file.write(piece)
                    file.flush()
                    os.fsync(file.fileno())
                yield partial, path
        finally:
            Path(partial).unlink(missing_ok=True)

    def _link_new(self, key: str, pieces: Iterator[bytes]) -> bool:
        if os.path.lexists(self._path(key)):
            return False
        with self._partial(key, pieces) as (partial, path):
            try:
                os.link(partial, path)
            except FileExistsError:
                return False
        return True

    def _attempt(self, key: str, call: Callable[[], Result]) -> Result:
        def once() -> Result:
            with self._errors(key):
                return call()

        return retry(once)

    @contextlib.contextmanager
    def _errors(self, key: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            what = f"{key!r} below {self.uri}: {error.strerror or error}"
            if error.errno in MISSING:
                raise Gone(what) from error
            if error.errno in REFUSED:
                raise Denied(what) from error
            raise Unreachable(what) from error


def _etag(stat: os.stat_result) -> str:
    return f"{stat.st_mtime_ns:x}-{stat.st_size:x}"


def _text(name: bytes) -> str:
    return ESCAPED.sub(rb"\\x5cx\1", name).decode("utf-8", "backslashreplace")


def _no_link_no_wait(path: str | bytes, flags: int) -> int:
    """An opener that fails on a link put in place of a file, and on a pipe, instead of following or waiting."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)
