"""Objects of several kinds, read in their order."""

import io
import tarfile

from pipeline.input.config import SourceConfig
from pipeline.input.listed_parts import listed_parts
from pipeline.storage.store import open_store


def test_shards_and_loose_objects_come_in_the_order_given_and_what_no_source_claims_is_read_too(tmp_path) -> None:
    store = open_store(tmp_path)
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        header = tarfile.TarInfo("0.png")
        header.size = 1
        archive.addfile(header, io.BytesIO(b"0"))
    for key, content in (("a.png", b"a"), ("b.tar", sink.getvalue()), ("c.yaml", b"c"), ("d.png", b"d")):
        store.put(key, content)
    parts = list(listed_parts(store.list(), SourceConfig(input_uri=store.uri), store))
    rows = [row for part in parts for row in part.table.select(["key", "encoded"]).to_pylist()]
    assert [(row["key"], row["encoded"]) for row in rows] == [
        ("a.png", b"a"), ("b.tar/0.png", b"0"), ("c.yaml", b"c"), ("d.png", b"d"),
    ]  # fmt: skip
    assert [part.ignored for part in parts] == [0, 0, 0]
