import io
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.input.config import SourceConfig
from pipeline.input.identity import content_hash
from pipeline.report.stored_images import CHANGED, GONE, Wanted, fetch
from pipeline.storage.store import open_store


def png(seed):
    sink = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (6, 5), np.uint8)).save(sink, "PNG")
    return sink.getvalue()


def tar(members):
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        for name, body in members:
            header = tarfile.TarInfo(name)
            header.size = len(body)
            archive.addfile(header, io.BytesIO(body))
    return sink.getvalue()


def parquet(**columns):
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink, row_group_size=3)
    return sink.getvalue()


@pytest.fixture
def archive(place):
    """A place with the same eight images as loose files, in a tar (each name twice) and in Parquet by number and by id."""
    store, bodies = open_store(place), [png(i) for i in range(8)]
    for i, body in enumerate(bodies):
        store.put(f"loose/a {i}.png", body)
    store.put("shards/a.tar", tar([(f"{i % 4}.png", body) for i, body in enumerate(bodies)]))
    store.put("rows/a.parquet", parquet(image=bodies))
    store.put("ids/a.parquet", parquet(image=bodies, serial=[f"s{i}" for i in range(8)]))
    return store, bodies


def wanted(store, key, member, body, name):
    return Wanted(name, f"{store.uri}/{key}", member, content_hash(body))


def test_images_come_back_from_every_source(archive):
    store, bodies = archive
    config = SourceConfig(input_uri=store.uri)
    asked = [wanted(store, f"loose/a {i}.png", None, bodies[i], f"loose{i}") for i in (5, 0)]
    asked += [wanted(store, "shards/a.tar", f"{i % 4}.png", bodies[i], f"tar{i}") for i in (7, 2, 3)]
    asked += [wanted(store, "rows/a.parquet", str(i), bodies[i], f"row{i}") for i in (4, 0)]
    found = fetch(asked, config)
    assert found == {
        **{f"loose{i}": bodies[i] for i in (5, 0)},
        **{f"tar{i}": bodies[i] for i in (7, 2, 3)},
        **{f"row{i}": bodies[i] for i in (4, 0)},
    }
    by_id = SourceConfig(input_uri=store.uri, id_column="serial")
    assert fetch([wanted(store, "ids/a.parquet", "s6", bodies[6], "id6")], by_id) == {"id6": bodies[6]}


def test_rows_without_an_id_and_rows_of_one_id_come_back_too(archive):
    store, bodies = archive
    ids = pa.array(["twice", None, "twice", "s3", None, "twice", "s6", "s7"]).dictionary_encode()
    store.put("ids/b.parquet", parquet(image=bodies, serial=ids))
    members = ["twice", "row 1", "twice", "s3", "row 4", "twice", "s6", "s7"]
    asked = [wanted(store, "ids/b.parquet", member, bodies[i], f"{i}") for i, member in enumerate(members)]
    found = fetch(asked, SourceConfig(input_uri=store.uri, id_column="serial"))
    assert found == {f"{i}": body for i, body in enumerate(bodies)}


def test_what_is_gone_or_changed_is_said(archive):
    store, bodies = archive
    config = SourceConfig(input_uri=store.uri)
    store.delete("loose/a 1.png")
    store.put("loose/a 2.png", bodies[3])
    store.put("shards/a.tar", tar([("0.png", bodies[0])]))
    store.put("rows/a.parquet", b"no parquet")
    asked = [wanted(store, f"loose/a {i}.png", None, bodies[i], f"loose{i}") for i in (1, 2)]
    asked += [wanted(store, "shards/a.tar", f"{i}.png", bodies[i], f"tar{i}") for i in (0, 1)]
    asked += [wanted(store, "shards/gone.tar", "0.png", bodies[0], "no tar")]
    asked += [wanted(store, "rows/a.parquet", "1", bodies[1], "row1")]
    store.put("rows/b.parquet", parquet(url=["a"]))
    asked += [wanted(store, "rows/b.parquet", "0", bodies[0], "other columns")]
    found = fetch(asked, config)
    assert found.pop("other columns").startswith("the shard cannot be read")
    assert found.pop("row1").startswith("the shard cannot be read")
    assert found == {"loose1": GONE, "loose2": CHANGED, "tar0": bodies[0], "tar1": CHANGED, "no tar": GONE}
