import os
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipeline.storage import copies
from pipeline.storage import store as storage
from pipeline.storage.copies import local_copy, upload_directory
from pipeline.storage.objects import Changed, Gone, Object, StorageError
from pipeline.storage.store import open_store
from pipeline.tables.delta import storage_options

KEYS = [
    *("a", "a.jpg", "a/b.jpg", "a/b/c.jpg", "a0", "b c.png", "b%20c.png", "b%", "q'u\"o\\te.png", "new\nline.png"),
    *("tab\t.png", "ü/ñ.jpg", "\uffff.png", "\U0001f600.png", "plus+and&eq=que?ha#.png", "~t*x|<>.png", "\x01.png"),
]
ONLY_S3 = ["a//b.jpg", "/lead.jpg", "trail/", "dot/./x", "dot/../y"]


NOT_MOTO = set() if shutil.which("radosgw") else {"new\nline.png"}


def keys_for(store):
    if store.uri.startswith("s3://"):
        wanted = {*KEYS, *ONLY_S3} - NOT_MOTO
    else:
        wanted = {*KEYS} - {"a"}  # which is a folder here
    return sorted(wanted, key=str.encode)


@pytest.fixture
def store(place):
    return open_store(place)


@pytest.fixture(scope="module")
def filled(module_place):
    store = open_store(module_place)
    for key in reversed(keys_for(store)):
        store.put(key, key.encode())
    return store


def test_every_key_is_listed_in_byte_order_and_read(filled):
    listed = list(filled.list())
    assert [entry.key for entry in listed] == keys_for(filled)
    assert [entry.size for entry in listed] == [len(key.encode()) for key in keys_for(filled)]
    assert all('"' not in entry.etag and entry.etag for entry in listed)
    for entry in listed:
        assert filled.get(entry.key, entry.etag) == entry.key.encode()


def test_listing_goes_on_after_any_key(filled):
    keys = keys_for(filled)
    in_xml = [key for key in keys if key not in ("\x01.png", "\uffff.png")]  # Ceph answers 500 to these as a start
    for start_after in [*in_xml, "", "a/", "a/b", "b", "zzz", "\U0010ffff"]:
        assert [e.key for e in filled.list(start_after=start_after)] == [k for k in keys if k > start_after]


@pytest.mark.parametrize("prefix", ["", "a", "a/", "a/b", "a/b/", "ü", "nothing", "nothing/there/"])
def test_listing_by_prefix(filled, prefix):
    found = [k for k in keys_for(filled) if k.startswith(prefix)]
    assert [entry.key for entry in filled.list(prefix)] == found
    if found:
        middle = found[len(found) // 2]
        assert [entry.key for entry in filled.list(prefix, start_after=middle)] == found[len(found) // 2 + 1 :]


def test_ranges_tails_and_streams(store, monkeypatch):
    content = os.urandom(1000)
    store.put("x", content)
    assert store.get_range("x", 10, 20) == content[10:30]
    assert store.get_range("x", 990, 20) == content[990:]
    assert store.get_range("x", 1000, 1) == store.get_range("x", 2000, 5) == store.get_range("x", 5, 0) == b""
    assert store.get_tail("x", 100) == (content[900:], 1000)
    assert store.get_tail("x", 5000) == (content, 1000)
    for module in (storage.S3Store, storage.LocalStore):
        monkeypatch.setitem(module.open_stream.__globals__, "RANGE_BYTES", 250)
    assert [len(piece) for piece in store.open_stream("x", 100)] == [250, 250, 250, 150]
    assert b"".join(store.open_stream("x")) == content
    store.put("empty", b"")
    assert store.get("empty") == b"" and store.get_tail("empty", 9) == (b"", 0) and not list(store.open_stream("empty"))


def test_reads_are_pinned_to_the_etag(store):
    store.put("x", b"one")
    (entry,) = store.list()
    assert entry == Object("x", 3, entry.etag, entry.stamp) and entry.stamp
    store.put("x", b"another")
    for read in (
        lambda: store.get("x", entry.etag),
        lambda: store.get_range("x", 0, 2, entry.etag),
        lambda: store.get_tail("x", 2, entry.etag),
        lambda: next(store.open_stream("x", 0, entry.etag)),
    ):
        with pytest.raises(Changed):
            read()
    assert store.get("x") == b"another"


def test_a_missing_object_is_gone(store):
    for read in (lambda: store.get("no"), lambda: store.get_range("no", 0, 1), lambda: store.get("no", "some-etag")):
        with pytest.raises(Gone):
            read()
    store.delete("no")


def test_put_new_creates_once(store, tmp_path):
    assert store.put_new("k", b"first")
    assert not store.put_new("k", b"second")
    path = tmp_path / "file"
    path.write_bytes(os.urandom(40 << 20))
    assert store.put_new_file("large", path)
    assert not store.put_new_file("large", path)
    assert not store.put_new_file("k", path)
    assert store.get("k") == b"first" and store.get("large") == path.read_bytes()
    assert [entry.key for entry in store.list()] == ["k", "large"]
    store.delete("k")
    assert store.put_new("k", b"third")
    storage.check_conditional_put(store, "probe")
    assert [entry.key for entry in store.list()] == ["k", "large"]


def test_of_racing_writers_one_wins(store):
    for round_number in range(5):
        bodies = [bytes([writer]) * 200_000 for writer in range(8)]
        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(lambda body, key=f"race{round_number}": store.put_new(key, body), bodies))
        assert sum(won) == 1
        assert store.get(f"race{round_number}") == bodies[won.index(True)]


def test_a_store_travels_and_is_shared(place):
    store = open_store(place)
    store.put("x", b"1")
    assert pickle.loads(pickle.dumps(store)).get("x") == b"1"
    assert open_store(place) is store


def test_directories_are_copied_and_uploaded(place, tmp_path):
    source = tmp_path / "artifact"
    (source / "deep").mkdir(parents=True)
    (source / "config.json").write_bytes(b"{}")
    (source / "deep" / "weights").write_bytes(b"w")
    upload_directory(source, place)
    copy = local_copy(place, tmp_path / "cache")
    assert (copy / "config.json").read_bytes() == b"{}" and (copy / "deep" / "weights").read_bytes() == b"w"
    assert local_copy(place, tmp_path / "cache") == copy
    if place.startswith("s3://"):
        open_store(place).put("config.json", b"[]")
        left = copy.with_name(f"{copy.name}.{'a' * 32}")
        left.mkdir()
        os.utime(left, (0, 0))
        changed = local_copy(place, tmp_path / "cache")
        assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == sorted([copy.name, changed.name])
        assert changed != copy and (changed / "config.json").read_bytes() == b"[]"
        with pytest.raises(Gone):
            local_copy(place + "/nothing", tmp_path / "cache")


def test_a_copy_does_not_depend_on_what_else_the_listing_says(tmp_path, monkeypatch):
    class Bucket:
        uri, stamp = "s3://bucket", "GLACIER:1"

        def list(self):
            return iter([Object("config.json", 1, "e", self.stamp)])

        def get(self, key, etag=None, size=None):
            return b"x"

    bucket = Bucket()
    monkeypatch.setattr(copies, "open_store", lambda uri: bucket)
    copy = local_copy("s3://bucket", tmp_path)
    bucket.stamp = ":2"
    assert local_copy("s3://bucket", tmp_path) == copy


def test_other_clients_read_by_the_same_environment(place):
    import deltalake
    import pyarrow as pa

    uri = f"{place}/table"
    deltalake.write_deltalake(uri, pa.table({"a": [1]}), storage_options=storage_options(uri))
    assert deltalake.DeltaTable(uri, storage_options=storage_options(uri)).to_pyarrow_table().num_rows == 1


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        (["config.json", "../outside"], "leads outside"),
        (["/etc/outside"], "leads outside"),
        (["a/../../outside"], "leads outside"),
        (["nul\0"], "leads outside"),
        (["a", "a/b"], "is that of a directory too"),
        (["a/b", "a"], "is that of a directory too"),
    ],
)
def test_a_hostile_key_is_not_copied(tmp_path, monkeypatch, keys, why):
    class Bucket:
        uri = "s3://bucket"

        def list(self):
            return iter([Object(key, 1, "e") for key in keys])

        def get(self, key, etag=None, size=None):
            return b"x"

    monkeypatch.setattr(copies, "open_store", lambda uri: Bucket())
    cache = tmp_path / "cache"
    cache.mkdir()
    with pytest.raises(StorageError, match=why):
        local_copy("s3://bucket", cache)
    assert list(tmp_path.rglob("*")) == [cache], "nothing is left of it"
