import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.input.config import SourceConfig
from pipeline.input.listing import Listing
from pipeline.input.listing_file import BadListing, ListingFile
from pipeline.storage.objects import Denied, Object
from pipeline.storage.store import LocalStore, open_store

NAMES = ["a", "a!b", 'q"u,o"te', "new\nline", "é/ñ.jpg", "\uffff", "\U0001f600", "a-b/c", "a/b"]
OBJECTS = [Object(name, number, f"e{number}", f"GLACIER:{number}") for number, name in enumerate(NAMES)]


def csv_of(entries):
    cells = ([entry.etag, entry.key, str(entry.size), entry.stamp, "more"] for entry in entries)
    lines = [["etag", "key", "size", "stamp", "other"], *cells]
    return "".join(",".join('"' + cell.replace('"', '""') + '"' for cell in line) + "\n" for line in lines)


def in_file(tmp_path, text):
    path = tmp_path / "listing.csv"
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("order", [sorted, lambda entries, key: list(entries)], ids=["sorted", "unsorted"])
def test_objects_come_in_byte_order_of_the_key(tmp_path, kind, order):
    rows = order(OBJECTS, key=lambda entry: entry.key.encode())
    if kind == "csv":
        path = in_file(tmp_path, "\ufeff" + csv_of(rows))
    else:
        path = tmp_path / "l.parquet"
        pq.write_table(pa.Table.from_pylist([{**entry._asdict(), "more": 1} for entry in rows]), path)
    listing = ListingFile(path)
    for _ in range(2):
        assert list(listing) == sorted(OBJECTS, key=lambda entry: entry.key.encode())


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), min_size=1), max_size=20, unique=True))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
def test_any_key_is_read_in_any_order(tmp_path, names):
    path = in_file(tmp_path, csv_of([Object(name, 1, "e") for name in names]))
    assert [entry.key for entry in ListingFile(path)] == sorted(names, key=str.encode)


def test_the_stamp_may_be_missing(tmp_path):
    assert list(ListingFile(in_file(tmp_path, "key,size,etag\na,1,e\n"))) == [Object("a", 1, "e")]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "must have the columns key, size, etag"),
        ("key,size\na,1\n", "must have the columns key, size, etag; got key,size. Add etag"),
        ("key,size,etag\na,1,e\na,1,e\n", "must name each key once; got 'a' twice"),
        ("key,size,etag\na,1,e\nb,1,e\na,1,e\n", "must name each key once; got 'a' twice"),
        ('key,size,etag\na,1,"""e"""\n', "must give each etag without quotes; got '\"e\"' in line 2"),
        ("key,size,etag\na,1,\n", "etag without quotes; got '' in line 2"),
        ("key,size,etag\na,-1,e\n", "must give each size in bytes; got '-1' in line 2"),
        ("key,size,etag\n,1,e\n", "must name a key"),
        ("key,size,etag\na,1\n", "must have 3 columns in each line; got 2 in line 2"),
        ('key,size,etag\n"a,1,e\n', "must be a CSV file in UTF-8"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path, text, why):
    with pytest.raises(BadListing) as error:
        ListingFile(in_file(tmp_path, text))
    assert why in str(error.value) and "\n" not in str(error.value)


def test_bytes_that_are_no_text_and_files_that_are_not_there(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"key,size,etag\n\xff,1,e\n")
    (tmp_path / "a.parquet").write_bytes(b"no parquet")
    for name in ("a.csv", "a.parquet", "none.csv", "none.parquet"):
        with pytest.raises(BadListing, match="must be a CSV file in UTF-8 or a Parquet file"):
            ListingFile(tmp_path / name)


def test_a_listing_of_another_place_is_refused(place, tmp_path):
    store = open_store(place)
    for name in "abc":
        store.put(f"{name}.jpg", name.encode())
    there = list(store.list())
    ListingFile(in_file(tmp_path, csv_of([*there, Object("gone.jpg", 1, "e")]))).check(store)
    for entries, why in (
        ([Object(f"in/{entry.key}", *entry[1:]) for entry in there], "which is not there"),
        ([entry._replace(etag="e") for entry in there], "which has 1 bytes and etag"),
    ):
        with pytest.raises(BadListing, match=why):
            ListingFile(in_file(tmp_path, csv_of(entries))).check(store)


def test_a_store_that_may_not_be_listed_is_taken_at_the_file_s_word(tmp_path, monkeypatch):
    def refused(*_):
        raise Denied("no")

    monkeypatch.setattr(LocalStore, "list", refused)
    ListingFile(in_file(tmp_path, csv_of(OBJECTS))).check(open_store(tmp_path))


def test_the_input_is_listed_from_the_file(tmp_path, monkeypatch):
    path = in_file(tmp_path, csv_of([Object(name, 1, "e") for name in ("b.jpg", "a.jpg", "a.txt", "._a.jpg")]))
    monkeypatch.setattr(LocalStore, "list", None)
    listing = Listing(SourceConfig(input_uri=str(tmp_path)), open_store(tmp_path), ListingFile(path))
    assert [entry.key for entry in listing] == ["a.jpg", "b.jpg"] and listing.ignored == 2
