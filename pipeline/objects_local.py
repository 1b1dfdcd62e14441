"""A directory on this machine (or a mount) as a store."""

import contextlib
import errno
import logging
import os
import re
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from pipeline.objects import RANGE_BYTES, BadUri, Changed, Denied, Gone, Object, Unreachable, retry

Result = TypeVar("Result")

PARTIAL = ".flowscore-partial"  # suffix of files that are being written; never listed
MISSING = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP}
REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EOPNOTSUPP, errno.EEXIST}

log = logging.getLogger(__name__)


class LocalStore:
    """Keys are paths below `root` with `/`; bytes of a file name that are not UTF-8 appear as `\\xNN`.

    Symbolic links to directories are not followed, links to files only where the target lies below the root. The etag
    is modification time and size: neither inode (unstable on network mounts) nor change time (chmod alters it).
    """

    def __init__(self, root: str):
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
            yield from self._walk(directory, f"{top}/" if top else "", prefix, start_after or "")

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
        """Write the object whole, replacing one of that key."""

        def call() -> None:
            with self._partial(key, iter([body])) as (partial, path):
                os.replace(partial, path)

        retry(call)

    def put_new(self, key: str, body: bytes) -> bool:
        """Write the object whole unless the key exists; False when it did. A kill leaves all of it or nothing."""
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

    def _walk(self, directory: bytes, base: str, prefix: str, start_after: str) -> Iterator[Object]:
        for name, entry in self._attempt(base, lambda: self._entries(directory)):
            key = base + name
            if entry.is_dir(follow_symlinks=False):
                below = key  # ends in "/"
                passed = start_after > below and not start_after.startswith(below)
                if not passed and (below.startswith(prefix) or prefix.startswith(below)):
                    yield from self._walk(entry.path, below, prefix, start_after)
            elif key.startswith(prefix) and key > start_after:
                if entry.is_symlink() and not (self._is_inside(entry.path) and entry.is_file()):
                    log.warning("not followed: link %s below %s (outside, a directory or broken)", key, self.uri)
                    continue
                with contextlib.suppress(FileNotFoundError):  # deleted between listing and stat
                    stat = entry.stat()
                    yield Object(key, stat.st_size, _etag(stat))

    def _entries(self, directory: bytes) -> Sequence[tuple[str, os.DirEntry[bytes]]]:
        """Entries in the order of their keys: a directory counts with its slash (`a.txt` < `a/` < `a0`)."""
        try:
            with os.scandir(directory) as entries:
                named = [
                    (_text(entry.name) + "/" * entry.is_dir(follow_symlinks=False), entry)
                    for entry in entries
                    if not entry.name.endswith(PARTIAL.encode())
                    and (entry.is_dir(follow_symlinks=False) or entry.is_file() or entry.is_symlink())
                ]
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(named, key=lambda pair: pair[0])  # str order is code point order is UTF-8 byte order

    def _is_inside(self, path: bytes) -> bool:
        return os.path.realpath(path).startswith(self._real_root)

    def _path(self, key: str) -> str:
        parts = key.split("/")
        if key and ("" in parts or "." in parts or ".." in parts or "\0" in key):
            raise Gone(f"{key!r} is no path below {self.uri}")
        path = os.path.join(self.root, key) if key else self.root
        if "\\x" in key and not os.path.lexists(path):
            return os.fsdecode(re.sub(rb"\\x([89a-f][0-9a-f])", lambda m: bytes([int(m[1], 16)]), path.encode()))
        return path

    def _read(self, key: str, start: int, end: int | None, etag: str | None) -> tuple[bytes, int]:
        """Bytes from `start` (negative: from the end) to `end`, and the size of the whole file."""

        def call() -> tuple[bytes, int]:
            path = self._path(key)
            if not self._is_inside(os.fsencode(path)):
                raise Gone(f"{key!r} leads outside {self.uri}")
            with open(path, "rb", buffering=0) as file:
                stat = os.fstat(file.fileno())
                first = start if start >= 0 else max(0, stat.st_size + start)
                last = stat.st_size if end is None else min(end, stat.st_size)
                body = bytearray()
                file.seek(first)
                while len(body) < last - first and (piece := file.read(last - first - len(body))):
                    body += piece
                if etag is not None and not etag == _etag(stat) == _etag(os.fstat(file.fileno())):
                    raise Changed(f"{key!r} below {self.uri} was changed since it was listed")
                return bytes(body), stat.st_size

        return self._attempt(key, call)

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
    return name.decode("utf-8", "backslashreplace")
