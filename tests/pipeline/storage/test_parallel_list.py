from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.storage import parallel_list
from pipeline.storage.objects import Denied, Object, Page, StorageError, Unreachable
from pipeline.storage.parallel_list import in_parallel, list_all
from pipeline.storage.store import open_store

ADVERSARIAL = [
    *("a", "a/", "a//", "a//b", "a-b/c", "a/b", "a!", "a!/b", "a/b/", "a/b/c", "a/b!c", "a0", "a/0", "/", "//", "/a", "a b/c"),
    *(
        "é/a",
        "é",
        "\U0001f600/x",
        "\uffff/x",
        "\x01/x",
        "\x01",
        ".",
        "a.",
        "a./x",
        "a,/x",
        "a/\U0001f600",
        "-/-",
        "a/b/c/d/e/f",
    ),
]


class Bucket:
    """A bucket in memory with small pages, as S3 folds and cuts them."""

    def __init__(self, keys, page_keys=3):
        self.keys, self.page_keys, self.requests, self.fault = sorted(set(keys) - {""}), page_keys, [], None

    def page(self, prefix, token=None, by_folder=False):
        self.requests.append((prefix, by_folder))
        if self.fault and self.fault[0] == len(self.requests):
            raise self.fault[1]("no")
        names = {}  # of keys and folders, in order
        for key in self.keys:
            if key.startswith(prefix):
                rest = key[len(prefix) :]
                folded = by_folder and "/" in rest
                names[prefix + rest.partition("/")[0] + "/" if folded else key] = folded
        left = [name for name in names if token is None or name > token]
        now = left[: self.page_keys]
        objects = [Object(name, 1, "e") for name in now if not names[name]]
        return Page(objects, [name for name in now if names[name]], now[-1] if len(left) > len(now) else None)


def keys_of(bucket):
    return [entry.key for entry in in_parallel(bucket)]


keys = st.one_of(st.text("ab/!-0\x01é\U0001f600", min_size=1, max_size=7), st.sampled_from(ADVERSARIAL))


@given(st.lists(keys, max_size=60), st.integers(1, 7), st.sampled_from([0.0, 0.25, 1.0]))
@settings(max_examples=300, deadline=None)
def test_it_is_the_serial_listing_for_any_keys(names, page_keys, worth):
    bucket = Bucket(names, page_keys)
    before, parallel_list.WORTH = parallel_list.WORTH, worth
    try:
        assert keys_of(bucket) == sorted(set(names), key=str.encode)
    finally:
        parallel_list.WORTH = before


def test_folders_are_listed_each_by_itself_and_the_cost_is_bounded():
    names = [
        f"{line}/{day:02}/{lot}/{number:03}.jpg" for line in "ab" for day in range(5) for lot in "xy" for number in range(100)
    ]
    bucket = Bucket(names, 10)
    assert keys_of(bucket) == sorted(names)
    assert {"a/", "b/", "a/00/", "b/04/y/"} <= {prefix for prefix, _ in bucket.requests}
    assert len(bucket.requests) < 2 * len(names) / 10


def test_a_flat_or_finely_cut_bucket_is_one_serial_listing():
    for names in ([f"{n:04}.jpg" for n in range(500)], [f"{n:04}/a.jpg" for n in range(500)]):
        bucket = Bucket(names, 10)
        assert keys_of(bucket) == names and bucket.requests == [("", False)] * 50
    bucket = Bucket(names[:3], 10)
    assert keys_of(bucket) == names[:3] and len(bucket.requests) == 1


def test_only_so_much_is_read_ahead(monkeypatch):
    monkeypatch.setattr(parallel_list, "OBJECTS_AHEAD", 100)
    monkeypatch.setattr(parallel_list, "PAGE_OBJECTS", 10)
    monkeypatch.setattr(parallel_list, "THREADS", 4)
    bucket = Bucket([f"{folder:02}/{number:03}.jpg" for folder in range(40) for number in range(100)], 10)
    listing = in_parallel(bucket)
    used, most = 0, 0
    for used, _ in enumerate(listing, 1):
        most = max(most, 10 * sum(not by_folder for _, by_folder in bucket.requests) - used)
    assert used == 4000 and most <= 100 + 4 * 10 + 100  # and what is fetched twice: a page for each of the few levels


@pytest.mark.parametrize("error", [Denied, Unreachable])
@pytest.mark.parametrize("at", [1, 2, 5, 12])
def test_a_fault_is_raised_in_its_place(error, at):
    bucket = Bucket([f"{folder}/{number:03}.jpg" for folder in "abcd" for number in range(50)], 10)
    bucket.fault = at, error
    found = []
    with pytest.raises(error):
        for entry in in_parallel(bucket):
            found.append(entry.key)
    assert found == bucket.keys[: len(found)]


def test_a_listing_out_of_order_is_refused(monkeypatch):
    bucket = Bucket("ab")
    monkeypatch.setattr(bucket, "page", lambda *_: Page([Object("b", 1, "e"), Object("a", 1, "e")], [], None))
    with pytest.raises(StorageError, match="order"):
        list(in_parallel(bucket))


@pytest.mark.parametrize("worth", [0.0, 0.25])
def test_on_a_server_it_is_the_serial_listing(s3_bucket, monkeypatch, worth):
    store = open_store(f"{s3_bucket}/some/prefix")
    for key in (*ADVERSARIAL, *(f"a/many/{n}" for n in range(12))):
        store.put(key, key.encode())
    serial = list(store.list())
    assert all(one.key.encode() < next_one.key.encode() for one, next_one in pairwise(serial)) and len(serial) > 40
    real = store._client.list_objects_v2
    monkeypatch.setattr(store._client, "list_objects_v2", lambda **request: real(**request, MaxKeys=4))
    monkeypatch.setattr(parallel_list, "WORTH", worth)
    assert list(list_all(store)) == serial
