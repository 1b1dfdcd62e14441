"""The address of an output's tables, in the form that each library takes.

Delta takes a URL, in which `%`, `#` and `?` must be quoted. DuckDB takes a path, in which `*`, `?` and `[` stand for other
characters and `name=value` stands for a column; such outputs reach it through our store (pipeline/storage/store_files.py).
"""

import re
from urllib.parse import quote

from pipeline.storage.local import LocalStore
from pipeline.storage.objects import BadUri
from pipeline.storage.s3 import S3Store
from pipeline.storage.store import open_store
from pipeline.storage.store_files import SCHEME, StoreFiles

ESCAPE = re.compile("%[0-9a-fA-F]{2}")
CONTROL = re.compile("[\x00-\x1f\x7f]")
MEANS_MORE = re.compile(r"[*?\[\]{}=]")  # to DuckDB, in a local path


def delta_address(output_uri: str, name: str) -> str:
    """The table's address for deltalake: a plain path on this machine, or s3://... with its characters quoted.

    Raises:
        BadUri: the Delta library would put the table and its log in two places.
    """
    check_output(output_uri)
    store = open_store(output_uri)
    if isinstance(store, LocalStore):
        return f"{store.root.rstrip('/')}/{name}"
    bucket, _, prefix = store.uri.removeprefix("s3://").partition("/")
    return "/".join(["s3:/", bucket, *([quote(prefix)] if prefix else []), name])


def check_output(output_uri: str) -> None:
    """Raises BadUri for an output that cannot hold Delta tables."""
    store = open_store(output_uri)
    path = store.uri.partition("://")[2]
    local = isinstance(store, LocalStore)
    segments = path.split("/")[1:]
    if found := ESCAPE.search(path):
        fault = f"{found[0]!r}, which the Delta library reads as one character"
    elif found := CONTROL.search(path):
        fault = f"the control character {found[0]!r}"
    elif not _is_unicode(path):
        fault = "bytes that are not UTF-8"
    elif local and "\\" in path:
        fault = "a backslash"
    elif not local and not {"", ".", ".."}.isdisjoint(segments):
        fault = "an empty segment, '.' or '..'"
    else:
        return
    raise BadUri(
        f"output must be a place whose name Delta tables can have; got {output_uri!r} with {fault}. Name another place."
    )


def duckdb_address(output_uri: str, name: str) -> str:
    """The table's address for a connection of pipeline/tables/sql.py to this output."""
    store = open_store(output_uri)
    if isinstance(store, LocalStore) and not MEANS_MORE.search(store.root):
        return f"{store.root.rstrip('/')}/{name}"
    return f"{SCHEME}://{name}"


def duckdb_files(output_uri: str) -> StoreFiles | None:
    """The files that `duckdb_address` names, when DuckDB cannot open them itself."""
    store = open_store(output_uri)
    return StoreFiles(store) if isinstance(store, S3Store) or MEANS_MORE.search(store.uri) else None


def _is_unicode(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True
