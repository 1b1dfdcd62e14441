import pytest
from plan_units import plan_units

from pipeline.input import registry
from pipeline.input.config import SourceConfig, Start
from pipeline.sources import files
from pipeline.storage.objects import Archived, Denied, Object, Refused, Unreachable
from pipeline.storage.store import open_store
from schemas import encoded


def cut(objects, **config):
    config = SourceConfig(input_uri="x", **config)
    return [
        ([entry.key for entry in unit.objects], unit.date, unit.size) for unit in plan_units(files, iter(objects), config, None)
    ]


def test_units_are_cut_by_count_bytes_and_date():
    objects = [Object(f"{day}/{number}.jpg", 10, "e") for day in ("d1", "d2") for number in range(3)]
    assert [len(keys) for keys, _, _ in cut(objects)] == [6]
    assert [(len(keys), date) for keys, date, _ in cut(objects, key_pattern="{date}/{name}")] == [(3, "d1"), (3, "d2")]
    assert [len(keys) for keys, _, _ in cut(objects, unit_images=2)] == [2, 2, 2]
    assert [size for _, _, size in cut(objects, unit_bytes=45)] == [40, 20]
    assert [len(keys) for keys, _, _ in cut(objects, unit_bytes=1)] == [1] * 6
    assert cut([]) == []


def test_a_unit_holds_its_objects_whole():
    (unit,) = plan_units(files, iter([Object("a", 1, "e")]), SourceConfig(input_uri="x"), None)
    assert (unit.source, unit.objects, unit.images, unit.rows) == ("files", (("a", 1, "e"),), 1, None)


def test_claims():
    claimed = {
        key: registry.claiming(key)
        for key in ("a.jpg", "a.TAR", "a.tgz", "a.tar.gz", "a.parquet", "a.zip", "a.json", "a.tar.zst", "a.tar.xz")
    }
    assert claimed == {
        **{"a.jpg": "files", "a.TAR": "tar", "a.tgz": "tar", "a.tar.gz": "tar", "a.parquet": "parquet"},
        **{"a.zip": "files", "a.json": None, "a.tar.zst": "tar", "a.tar.xz": "files"},
    }
    assert registry.names()[-1] == "files"
    with pytest.raises(ValueError, match="source must be one of .*tar.*; got 'webdataset'"):
        registry.source("webdataset")


@pytest.fixture
def archive(place):
    store = open_store(place)
    for number in range(20):
        store.put(f"A/d/{number:02}.jpg", bytes([number]) * (number + 1))
    return store


def test_images_come_in_plan_order_with_their_identity(archive):
    config = SourceConfig(input_uri=archive.uri, key_pattern="{line}/{date}/{lot}.jpg")
    (unit,) = plan_units(files, archive.list(), config.model_copy(update={"date": "d"}), archive)
    (part,) = files.read(unit, archive, config, Start())
    assert part.next_offset is None and part.bytes_read == unit.size == sum(range(1, 21))
    assert part.table.schema == encoded.SCHEMA
    rows = part.table.to_pylist()
    assert [row["position"] for row in rows] == list(range(20))
    assert [row["encoded"] for row in rows] == [bytes([n]) * (n + 1) for n in range(20)]
    assert rows[3]["uri"] == f"{archive.uri}/A/d/03.jpg" and rows[3]["key"] == "A/d/03.jpg" and rows[3]["member"] is None
    assert rows[3]["keys"] == [("line", "A")] and rows[3]["lot"] == "03" and rows[3]["bytes"] == 4
    assert len({row["image_id"] for row in rows}) == 20 and not any(row["error"] for row in rows)


def test_row_3_deleted_changed_and_oversized_objects_are_rows(archive):
    config = SourceConfig(input_uri=archive.uri, max_member_bytes=19)
    (unit,) = plan_units(files, archive.list(), config, archive)
    for number in (0, 5, 9):
        archive.delete(f"A/d/{number:02}.jpg")
    for number in (1, 6, 10):
        archive.put(f"A/d/{number:02}.jpg", b"something new")
    (part,) = files.read(unit, archive, config, Start())
    rows = part.table.to_pylist()
    errors = {index: row["error"] for index, row in enumerate(rows) if row["error"]}
    assert errors == {**dict.fromkeys((0, 5, 9), "gone"), **dict.fromkeys((1, 6, 10), "changed"), 19: "too_large"}
    for index, row in enumerate(rows):
        assert row["bytes"] == index + 1
        assert (row["encoded"] is None) == (row["content_hash"] is None) == (row["stage"] == "read") == (index in errors)


@pytest.mark.parametrize("error", [Unreachable, Denied])
def test_what_storage_does_not_answer_is_no_row(archive, monkeypatch, error):
    config = SourceConfig(input_uri=archive.uri)
    (unit,) = plan_units(files, archive.list(), config, archive)
    real = type(archive).get

    def get(store, key, etag=None, size=None):
        if key == "A/d/07.jpg":
            raise error("no")
        return real(store, key, etag)

    monkeypatch.setattr(type(archive), "get", get)
    with pytest.raises(error):
        list(files.read(unit, archive, config, Start()))


def test_refused_and_archived_objects_are_rows_and_the_others_are_read(archive, monkeypatch):
    config = SourceConfig(input_uri=archive.uri)
    (unit,) = plan_units(files, archive.list(), config, archive)
    faults, real = {"A/d/07.jpg": Refused, "A/d/09.jpg": Archived}, type(archive).get

    def get(store, key, etag=None, size=None):
        if key in faults:
            raise faults[key]("no")
        return real(store, key, etag)

    monkeypatch.setattr(type(archive), "get", get)
    (part,) = files.read(unit, archive, config, Start())
    rows = part.table.to_pylist()
    assert {row["key"]: (row["stage"], row["error"]) for row in rows if row["error"]} == {
        "A/d/07.jpg": ("read", "refused"),
        "A/d/09.jpg": ("read", "archived"),
    }
    assert "Allow this account" in rows[7]["message"] and "Restore it" in rows[9]["message"]
    assert sum(row["encoded"] is not None for row in rows) == 18


def test_a_day_too_long_to_name_a_folder_is_no_day():
    objects = [Object(f"{day}/x.jpg", 10, "e") for day in ("d" * 64, "d" * 65, "é" * 32, "é" * 33)]
    pattern = {"key_pattern": "{date}/{name}"}
    found = {date for _, date, _ in cut(objects, **pattern)}
    assert found == {"d" * 64, "none", "é" * 32}
    assert cut(objects[1:2], date="2026-01-01", **pattern)[0][1] == "2026-01-01"
    assert SourceConfig(input_uri="x", **pattern).day("d" * 300 + "/s.tar", shard=True) == "none"
    with pytest.raises(ValueError, match="date must have at most 64 bytes"):
        SourceConfig(input_uri="x", date="d" * 65)


@pytest.mark.parametrize("name", ["b.zip", "b.tar.bz2", "b.7z", "old/b.rar", "b.tfrecord", "b.zip.001"])
def test_an_archive_that_is_not_read_is_one_row_that_names_it(place, name):
    store = open_store(place)
    for key in ("a.jpg", name, "z.jpg"):
        store.put(key, b"PK\x03\x04" * 1000)
    config = SourceConfig(input_uri=place, max_member_bytes=100_000)
    (unit,) = plan_units(files, store.list(), config, store)
    (part,) = files.read(unit, store, config, Start())
    found = part.table.to_pylist()
    assert [(row["key"], row["error"]) for row in found] == [
        ("a.jpg", None),
        *([(name, "unsupported_archive"), ("z.jpg", None)]),
    ]
    assert repr(name.rpartition("/")[2]) in found[1]["message"] and found[1]["bytes"] == 4000
    assert part.bytes_read == 8000, "an archive is not fetched"
