import io
import os
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from plan_units import plan_units

from pipeline.input.config import SourceConfig, Start
from pipeline.input.identity import image_id
from pipeline.input.parquet import shard as parquet_shard
from pipeline.input.parquet_columns import NoSuchColumn
from pipeline.report.stored_images import Wanted, fetch
from pipeline.sources import parquet
from pipeline.storage.objects import Archived, Denied, Object, Refused, Unreachable
from pipeline.storage.store import open_store
from schemas import encoded


def images(count, size=100):
    return [f"image {n}".encode() + os.urandom(size) for n in range(count)]


def shard(content, group=1000, **columns):
    """Parquet bytes with the column `image` and others, `group` rows a row group, images uncompressed."""
    sink = io.BytesIO()
    table = pa.table({"image": pa.array(content, pa.binary()), **columns})
    pages = {"data_page_size": 4096, "write_batch_size": 8, "compression": "none", "use_dictionary": False}
    pq.write_table(table, sink, row_group_size=group, **pages)
    return sink.getvalue()


@pytest.fixture
def put(place):
    """Puts a shard; gives the store, the config and the plan rows."""
    store = open_store(place)

    def call(content, key="s.parquet", **options):
        store.put(key, content)
        config = SourceConfig(input_uri=place, **options)
        return store, config, list(plan_units(parquet, (e for e in store.list() if e.key == key), config, store))

    return call


@pytest.fixture
def put_locally(tmp_path):
    store = open_store(tmp_path)

    def call(content, key="s.parquet", **options):
        store.put(key, content)
        config = SourceConfig(input_uri=store.uri, **options)
        return store, config, list(plan_units(parquet, (e for e in store.list() if e.key == key), config, store))

    return call


def read(store, config, unit, start=None):
    return list(parquet.read(unit, store, config, start or Start()))


def rows(store, config, units):
    return [row for unit in units for part in read(store, config, unit) for row in part.table.to_pylist()]


def test_rows_are_images_with_their_number_as_member(put):
    content = images(50)
    store, config, units = put(shard(content, 20), "A/d/s.parquet", key_pattern="{line}/{date}/{shard}/{name}")
    (unit,) = units
    assert (unit.rows, unit.images, unit.date) == ((0, 50), 50, "d")
    assert 50 * 100 < unit.size <= len(shard(content, 20))
    (part,) = read(store, config, unit)
    assert part.table.schema == encoded.SCHEMA and part.next_offset is None and part.bytes_read >= unit.size
    found = part.table.to_pylist()
    assert [row["encoded"] for row in found] == content and [row["member"] for row in found] == [str(n) for n in range(50)]
    assert found[7]["key"] == "A/d/s.parquet/7"
    assert found[7]["keys"] == [("line", "A"), ("shard", "s.parquet"), ("name", "7")]


def test_units_join_small_row_groups(put_locally):
    content = images(100)
    store, config, units = put_locally(shard(content, 10), unit_images=35)
    assert [(*u.rows, u.images) for u in units] == [(0, 30, 30), (30, 30, 30), (60, 30, 30), (90, 10, 10)]
    assert [row["encoded"] for row in rows(store, config, units)] == content
    _, _, units = put_locally(shard(content, 10), unit_bytes=3000)
    assert [u.rows.length for u in units] == [20] * 5


def test_a_large_row_group_is_a_stream(put):
    content = images(100)
    store, config, units = put(shard(content, 60), unit_images=25)
    assert [(*u.rows, u.images) for u in units] == [(0, 60, None), (60, 40, None)]
    assert [row["encoded"] for row in rows(store, config, units)] == content
    for unit in units:
        parts = read(store, config, unit)
        assert [part.next_offset for part in parts] == [*range(25, unit.rows.length, 25), None]
        for number, part in enumerate(parts[:-1]):
            again = read(store, config, unit, Start(part.next_offset, number + 1, {}))
            assert [p.table for p in again] == [p.table for p in parts[number + 1 :]]


def test_a_stream_is_cut_by_bytes_and_holds_little_in_memory(put_locally, monkeypatch):
    monkeypatch.setattr(parquet_shard, "BUFFER_BYTES", 100_000)
    content = images(400, 20_000)
    store, config, units = put_locally(shard(content), unit_bytes=200_000)
    (unit,) = units
    before = pa.total_allocated_bytes()
    parts = iter(parquet.read(unit, store, config, Start()))
    first = next(parts)
    assert first.table.num_rows == 9 and first.bytes_read < 1_000_000
    assert pa.total_allocated_bytes() - before < 2_000_000
    assert [first.next_offset, *(part.next_offset for part in parts)] == [*range(9, 400, 9), None]


def test_no_rows_are_a_planned_unit_of_none(put_locally):
    store, config, units = put_locally(shard([]))
    assert [(u.rows.length, u.images) for u in units] == [(0, 0)]
    assert [part.table.num_rows for part in read(store, config, units[0])] == [0]


# --- columns ---


def struct_of(content, extra=None):
    paths = [f"p{n}.jpg" for n in range(len(content))]
    return pa.array([{"bytes": b, "path": p} for b, p in zip(content, paths, strict=True)])


def written(table):
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, ["0", "1", "2"]),
        ({"id_column": "image.path"}, ["p0.jpg", "p1.jpg", "p2.jpg"]),
        ({"id_column": "n"}, ["5", "6", "7"]),
    ],
)
def test_a_struct_of_bytes_and_path(put_locally, options, names):
    content = images(3)
    table = pa.table({"n": [5, 6, 7], "image": struct_of(content), "label": ["a", "b", "c"]})
    for choice in ({}, {"image_column": "image"}, {"image_column": "image.bytes"}):
        store, config, units = put_locally(written(table), **options, **choice)
        assert [(r["member"], r["encoded"]) for r in rows(store, config, units)] == list(zip(names, content, strict=True))


def test_equal_ids_and_null_cells(put_locally):
    table = pa.table(
        {
            "id": ["a", "a", None, "b"],
            "image": pa.array([b"1", b"2", b"3", None], pa.large_binary()),
        }
    )
    store, config, units = put_locally(written(table), id_column="id", max_member_bytes=10)
    found = rows(store, config, units)
    assert [r["member"] for r in found] == ["a", "a", "row 2", "b"] and len({r["image_id"] for r in found}) == 4
    assert [r["error"] for r in found] == [None, None, None, "missing"]
    store, config, units = put_locally(written(table.set_column(1, "image", [[b"1", b"22", b"333", b""]])), max_member_bytes=2)
    assert [r["error"] for r in rows(store, config, units)] == [None, None, "too_large", None]


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        ({"x": [1]}, {}, "must have a column of encoded images; got x \\(int64\\)"),
        ({"a": [b"1"], "b": [b"2"]}, {}, "image_column must be one of a, b"),
        ({"a": [b"1"]}, {"image_column": "b"}, "image_column must name .* got 'b'.* a \\(binary\\)"),
        ({"a": ["text"]}, {"image_column": "a"}, "image_column must name"),
        ({"a": [b"1"]}, {"id_column": "b"}, "id_column must name .* got 'b'"),
        ({"a": [b"1"], "f": [1.5]}, {"id_column": "f"}, "id_column must name"),
    ],
)
def test_columns_that_are_not_there(put_locally, columns, options, message):
    with pytest.raises(NoSuchColumn, match=message):
        put_locally(written(pa.table(columns)), **options)


# --- rows 2 and 3 of design.md's table ---


def truncated(content):
    return content[: len(content) // 2]


def bad_footer(content):
    start = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    return content[:start] + b"\xff" * 32 + content[start + 32 :]


def bad_length(content):
    return content[:-8] + b"\xff\xff\xff\x7f" + content[-4:]


@pytest.mark.parametrize(
    "damage", [truncated, bad_footer, bad_length, lambda c: b"", lambda c: b"PAR1", lambda c: os.urandom(5000)]
)
def test_a_footer_that_cannot_be_read_is_one_error(put, damage):
    store, config, units = put(damage(shard(images(20))))
    (unit,) = units
    assert (unit.rows, unit.images) == (None, None)
    (row,) = rows(store, config, units)
    assert (row["stage"], row["error"], row["member"]) == ("read", "corrupt_shard", None)


def small_shard():
    sink = io.BytesIO()
    pq.write_table(pa.table({"image": images(40, 10)}), sink, store_schema=False, compression="none")
    content = sink.getvalue()
    return content, len(content) - 8 - int.from_bytes(content[-8:-4], "little")


@pytest.mark.parametrize("rows", [b"\x16\x4f", b"\x16\xfe\xff\xff\xff\x0f", b"\x16\x52"])  # zigzag: -40, 2^31 and more, 41
@pytest.mark.parametrize("places", [1, -1])
def test_a_footer_whose_counts_cannot_be_is_one_error(put_locally, rows, places):
    content, footer = small_shard()
    damaged = content[footer:-8].replace(b"\x16\x50", rows, places)
    assert damaged != content[footer:-8]
    content = content[:footer] + damaged + len(damaged).to_bytes(4, "little") + b"PAR1"
    store, config, units = put_locally(content)
    found = rows_or_error(store, config, units)
    assert len(found) <= 41 and {row["error"] for row in found[40:] or found} == {"corrupt_shard"}


def rows_or_error(store, config, units):
    found = rows(store, config, units)
    assert all(unit.images is None or unit.images >= 0 for unit in units)
    assert all((row["encoded"] is None) == (row["error"] is not None) for row in found)
    return found


@pytest.mark.parametrize("wrong", [1, 0x80, 0xFF])
def test_no_byte_of_a_footer_ends_the_process(put_locally, wrong):
    """Some would: pyarrow aborts when a column's size statistics do not fit it and its metadata are asked for."""
    content, footer = small_shard()
    for at in range(footer, len(content)):
        damaged = bytearray(content)
        damaged[at] ^= wrong
        try:
            store, config, units = put_locally(bytes(damaged))
        except NoSuchColumn:
            continue
        assert len(rows_or_error(store, config, units)) in (1, 40)


def test_an_id_that_is_not_utf8_is_a_name_all_the_same(put_locally):
    content = images(2)
    broken = shard(content, id=["first", "second"]).replace(b"first", b"f\xffrst")
    store, config, units = put_locally(broken, image_column="image", id_column="id")
    assert [row["member"] for row in rows(store, config, units)] == ["f\\xffrst", "second"]


def test_damaged_pages_cost_the_rows_from_there_on(put_locally):
    content = images(200, 1000)
    whole = shard(content)
    middle = len(whole) // 2
    broken = whole[: middle - 10_000] + b"\xff" * 20_000 + whole[middle + 10_000 :]
    store, config, units = put_locally(broken, unit_images=30)
    found = rows(store, config, units)
    assert len(found) == 200 and [r["member"] for r in found] == [str(n) for n in range(200)]
    good = [r["encoded"] for r in found if r["error"] is None]
    assert 30 <= len(good) < 110 and good == content[: len(good)]
    assert {r["error"] for r in found[len(good) :]} == {"corrupt_shard"}


def test_a_damaged_row_group_costs_none_of_the_rows_before_it(put_locally):
    content = images(20, 1000)
    whole = bytearray(shard(content, 5))
    second = pq.read_metadata(io.BytesIO(whole)).row_group(1).column(0).data_page_offset
    whole[second : second + 8] = b"\xff" * 8
    store, config, units = put_locally(bytes(whole))
    found = rows(store, config, units)
    assert [row["encoded"] for row in found] == content[:5] + [None] * 15
    assert {row["error"] for row in found[5:]} == {"corrupt_shard"}


@pytest.mark.parametrize("change", ["gone", "changed"])
@pytest.mark.parametrize("options", [{}, {"unit_images": 4}])
def test_a_shard_deleted_or_changed_costs_all_its_rows(put, change, options):
    store, config, units = put(shard(images(10)), **options)
    store.put("s.parquet", b"other") if change == "changed" else store.delete("s.parquet")
    found = rows(store, config, units)
    assert len(found) == 10 and {r["error"] for r in found} == {change}
    (unit,) = plan_units(parquet, iter([Object("s.parquet", 100, "old")]), config, store)
    assert unit.rows is None and [r["error"] for r in rows(store, config, [unit])] == [change]


@pytest.mark.parametrize("error", [Unreachable, Denied])
def test_what_storage_does_not_answer_is_no_row(put, monkeypatch, error):
    store, config, units = put(shard(images(10, 20_000)))

    def fail(*arguments, **named):
        raise error("no")

    monkeypatch.setattr(type(store), "get_range", fail)
    with pytest.raises(error):
        rows(store, config, units)
    monkeypatch.setattr(type(store), "get_tail", fail)
    with pytest.raises(error):
        rows(store, config, units)
    with pytest.raises(error):
        list(plan_units(parquet, store.list(), config, store))


@pytest.mark.parametrize(("error", "name"), [(Refused, "refused"), (Archived, "archived")])
def test_a_refused_shard_costs_all_its_rows(put, monkeypatch, error, name):
    store, config, units = put(shard(images(10, 20_000)))

    def fail(*arguments, **named):
        raise error("no")

    monkeypatch.setattr(type(store), "get_range", fail)
    found = rows(store, config, units)
    assert len(found) == 10 and {row["error"] for row in found} == {name}
    monkeypatch.setattr(type(store), "get_tail", fail)
    (unit,) = plan_units(parquet, store.list(), config, store)
    assert unit.rows is None and [row["error"] for row in rows(store, config, [unit])] == [name]


# --- hostile files ---


def with_footer(content, change):
    """The file with its footer (thrift, bytes) changed."""
    start = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    footer = change(content[start:-8])
    return content[:start] + footer + len(footer).to_bytes(4, "little") + b"PAR1"


def thrift_int(number):
    """A thrift field header of an int64 that follows its predecessor, and the number."""
    number, encoded = number << 1, b"\x16"
    while number > 127:
        encoded, number = encoded + bytes([number & 127 | 128]), number >> 7
    return encoded + bytes([number])


@pytest.mark.parametrize("rows_said", [10**12, 100_000, 38])
def test_a_footer_is_not_believed_more_rows_than_bytes(put_locally, rows_said):
    """Else each of them would become a row of errors."""
    content = shard([b"i"] * 37)
    assert content.count(thrift_int(37)) > 1
    forged = with_footer(content, lambda footer: footer.replace(thrift_int(37), thrift_int(rows_said)))
    store, config, units = put_locally(forged)
    found = rows(store, config, units)
    if rows_said == 38:  # believable: the missing one is listed
        assert [r["error"] for r in found] in ([None] * 37 + ["corrupt_shard"], ["corrupt_shard"] * 38)
    else:
        assert [(r["member"], r["error"]) for r in found] == [(None, "corrupt_shard")]
        assert f"the footer says {rows_said} rows" in found[0]["message"]


def test_groups_that_contradict_the_file_are_one_error(put_locally):
    content = shard([b"i"] * 37)

    def first_only(footer):
        at = footer.index(thrift_int(37))
        return footer[:at] + thrift_int(5) + footer[at + len(thrift_int(37)) :]

    assert [r["error"] for r in rows(*put_locally(with_footer(content, first_only)))] == ["corrupt_shard"]


def test_a_bomb_of_equal_rows_is_one_error(put_locally):
    content = io.BytesIO()
    pq.write_table(pa.table({"image": pa.nulls(1_000_000, pa.binary())}), content)
    assert len(content.getvalue()) < 10_000
    assert [r["error"] for r in rows(*put_locally(content.getvalue()))] == ["corrupt_shard"]


def test_ids_that_are_no_text(put_locally):
    content = shard([b"1", b"2", b"3"], id=["r0", "r1", "r2"]).replace(b"r1", b"\xff1")
    store, config, units = put_locally(content, id_column="id")
    assert [r["member"] for r in rows(store, config, units)] == ["r0", "\\xff1", "r2"]
    wanted = [Wanted(r["image_id"], r["uri"], r["member"], r["content_hash"]) for r in rows(store, config, units)]
    assert fetch(wanted, config) == {image.image_id: bytes([49 + n]) for n, image in enumerate(wanted)}


@pytest.mark.parametrize(
    "stray", [{"label": [1, 2]}, {"image": ["text", "text"]}, {"a": [b"1", b"2"], "b": [b"3", b"4"]}, {"image": [1.5, 2.5]}]
)
@pytest.mark.parametrize("name", ["a.parquet", "z.parquet"])
def test_a_stray_file_among_shards_is_its_own_error(put_locally, stray, name):
    """What one file holds stops no run; that no file fits is a mistake in the config, and is said before anything starts."""
    store, config, _ = put_locally(shard(images(3)), "m.parquet")
    store.put(name, written(pa.table(stray)))
    found = rows(store, config, list(plan_units(parquet, store.list(), config, store)))
    assert sorted((r["key"].split("/")[0], r["error"] or "") for r in found) == sorted(
        [("m.parquet", "")] * 3 + [(name, "unsupported")]
    )
    assert name in next(r["message"] for r in found if r["error"])
    store.delete("m.parquet")
    with pytest.raises(ValueError, match=name):
        list(plan_units(parquet, store.list(), config, store))


@pytest.mark.parametrize("seed", range(20))
def test_random_damage_never_escapes(put_locally, seed):
    rng = random.Random(seed)
    whole = shard([b"i" * 50] * 40, group=16, id=[f"r{n}" for n in range(40)])
    for _ in range(20):
        content = bytearray(whole)
        for _ in range(rng.choice((1, 2, 5))):
            content[rng.randrange(rng.choice((0, len(whole) - 700)), len(whole))] = rng.randrange(256)
        try:
            found = rows(*put_locally(bytes(content), id_column="id"))
        except parquet.NoSuchColumn:  # the only shard: see above
            continue
        assert 0 < len(found) <= len(whole) and all(r["error"] or r["encoded"] for r in found)


# --- types of columns ---

CELLS = [b"first image", None, b"an image that is too long for a view to hold it inline", b"first image"]
TYPES = [
    *(pa.binary(), pa.large_binary(), pa.binary_view(), pa.dictionary(pa.int32(), pa.binary())),
    *(pa.dictionary(pa.int32(), pa.large_binary()), pa.dictionary(pa.int8(), pa.binary())),
]


def of_type(cells, dtype):
    plain = pa.array(cells, dtype.value_type if pa.types.is_dictionary(dtype) else dtype)
    return plain.dictionary_encode() if pa.types.is_dictionary(dtype) else plain


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("nested", [False, True])
def test_images_of_every_binary_type(put_locally, dtype, nested):
    column = of_type(CELLS, dtype)
    if nested:
        column = pa.StructArray.from_arrays([column, pa.array(list("abcd"))], ["bytes", "path"])
    store, config, units = put_locally(written(pa.table({"label": [1, 2, 3, 4], "image": column})))
    found = rows(store, config, units)
    assert [row["encoded"] for row in found] == CELLS and [row["error"] for row in found] == [None, "missing", None, None]


IDS = [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())]


@pytest.mark.parametrize("dtype", [*IDS, pa.dictionary(pa.int16(), pa.large_string())], ids=str)
def test_ids_of_every_string_type(put_locally, dtype):
    names = ["one", None, "a name that is too long for a view to hold it", "one"]
    table = pa.table({"id": of_type(names, dtype), "image": of_type(CELLS, pa.binary_view())})
    store, config, units = put_locally(written(table), id_column="id")
    found = rows(store, config, units)
    assert [row["member"] for row in found] == ["one", "row 1", names[2], "one"]
    assert len({row["image_id"] for row in found}) == 4
    wanted = [Wanted(row["image_id"], row["uri"], row["member"], row["content_hash"]) for row in found]
    assert fetch(wanted[2:3], config) == {wanted[2].image_id: CELLS[2]}


# --- ids that repeat ---

REPEATED = ["a", "b", "a", None, "b", "a", "row 3", "c", "a", None]


@pytest.mark.parametrize("group", [1, 2, 3, 4, 10])
@pytest.mark.parametrize("unit_images", [1, 2, 3, 5, 1000])
def test_an_id_that_repeats_counts_within_the_whole_shard(put_locally, group, unit_images):
    """Whatever row group, unit or part of a stream its rows lie in, they have the ids that they would have in one unit."""
    content = images(10)
    store, config, units = put_locally(shard(content, group, id=REPEATED), id_column="id", unit_images=unit_images)
    found = rows(store, config, units)
    names = [f"row {n}" if name is None else name for n, name in enumerate(REPEATED)]
    assert [row["member"] for row in found] == names and [row["encoded"] for row in found] == content
    wanted = [image_id(f"{store.uri}/s.parquet", name, names[:n].count(name)) for n, name in enumerate(names)]
    assert [row["image_id"] for row in found] == wanted and len(set(wanted)) == 10


def test_a_stream_that_goes_on_counts_the_parts_and_the_row_groups_before_it(put_locally):
    content = images(8)
    store, config, units = put_locally(shard(content, 4, id=["x"] * 8), id_column="id", unit_images=3)
    assert [unit.images for unit in units] == [None, None]
    whole = rows(store, config, units)
    assert len({row["image_id"] for row in whole}) == 8
    (part,) = read(store, config, units[1], Start(3, 1, {"x": 3}))
    assert part.table["image_id"].to_pylist() == [whole[7]["image_id"]]


def test_ids_after_damage_are_given_once(put_locally):
    """The rows after it have no id in their own unit; those of the next one count only ids that were given."""
    content = images(12)
    whole = bytearray(shard(content, 4, id=["x"] * 12))
    column = pq.read_metadata(io.BytesIO(whole)).row_group(1).column(1)
    whole[column.data_page_offset : column.data_page_offset + 8] = b"\xff" * 8
    store, config, units = put_locally(bytes(whole), id_column="id", unit_images=4)
    found = rows(store, config, units)
    assert [row["error"] for row in found] == [None] * 4 + ["corrupt_shard"] * 4 + [None] * 4
    assert len({row["image_id"] for row in found}) == 12


def test_an_id_of_many_bytes_is_shortened(put_locally):
    store, config, units = put_locally(shard(images(2), id=["a" * 100_000, "b"]), id_column="id")
    first, second = rows(store, config, units)
    assert len(first["member"]) < 1000 and second["member"] == "b"


# --- files that describe images instead of holding them ---


def described(count=3):
    return written(pa.table({"url": ["u"] * count, "key": [f"{n:09}" for n in range(count)], "status": ["success"] * count}))


@pytest.mark.parametrize(
    ("key", "beside"),
    [
        ("00000.parquet", "00000.tar"),
        ("a/00000.parquet", "a/00000.tar.gz"),
        ("a/b.c.pq", "a/b.c.tgz"),
        ("00000.parquet", "00000.tar.zst"),
        ("00000.parquet", "00000/000000001.jpg"),
        ("train/metadata.parquet", "train/a.jpg"),
    ],
)
def test_a_parquet_that_describes_others_is_ignored_and_counted(put, place, key, beside):
    open_store(place).put(beside, b"x")
    store, config, units = put(described(), key)
    assert [(u.rows, u.images, u.size) for u in units] == [((0, 0), 0, 0)], "planned, so that no later run plans it again"
    (part,) = read(store, config, units[0])
    assert (part.table.num_rows, part.ignored, part.next_offset) == (0, 1, None)


@pytest.mark.parametrize("beside", ["00000.txt", "00001.tar", "00000.tar.xz", "x00000.tar", "00000.target"])
def test_a_parquet_that_describes_nothing_beside_it_is_a_mistake(put_locally, tmp_path, beside):
    open_store(tmp_path).put(beside, b"x")
    with pytest.raises(NoSuchColumn, match="must have a column of encoded images"):
        put_locally(described(), "00000.parquet")


@pytest.mark.parametrize("beside", ["a.jpg", "other/a.jpg", "train/notes.txt", "train/.hidden.jpg", "train2/a.jpg"])
def test_metadata_without_images_in_its_folder_is_a_mistake(put_locally, tmp_path, beside):
    open_store(tmp_path).put(beside, b"x")
    with pytest.raises(NoSuchColumn, match="must have a column of encoded images"):
        put_locally(described(), "train/metadata.parquet")


def test_a_parquet_of_images_beside_a_tar_of_its_name_is_read(put_locally, tmp_path):
    open_store(tmp_path).put("s.tar", b"x")
    content = images(3)
    store, config, units = put_locally(shard(content))
    assert [row["encoded"] for row in rows(store, config, units)] == content
    (part,) = read(store, config, put_locally(shard([]))[2][0])
    assert (part.table.num_rows, part.ignored) == (0, 0), "a shard without rows is no sidecar"
