"""What is found out about a key pattern before any work, and with how few requests."""

import gzip
import io
import tarfile
from datetime import UTC, datetime
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.input import pattern_fit as pattern_fit_module
from pipeline.input.config import SourceConfig
from pipeline.input.listing_file import ListingFile
from pipeline.input.pattern_fit import FURTHER, LOOKED_AT, SHARDS_OPENED, PathRead, pattern_fit
from pipeline.storage.local import LocalStore
from pipeline.storage.s3 import S3Store

JPEG = b"\xff\xd8\xff\xe0"
PATTERN = "{line}/{date}/{lot}/{name}"
FOLDERS = "abcdefghij"


def tar(*names):
    """Of names, or of pairs of a name and its content."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as out:
        for name, content in (name if isinstance(name, tuple) else (name, JPEG) for name in names):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            out.addfile(member, io.BytesIO(content))
    return sink.getvalue()


def parquet(names):
    sink = io.BytesIO()
    pq.write_table(pa.table({"image": pa.array([JPEG] * len(names), pa.binary()), "id": names}), sink)
    return sink.getvalue()


@pytest.fixture
def fit(tmp_path):
    """What a pattern reads from these objects: name -> content, or a list of names."""

    def call(objects, pattern=PATTERN, **options):
        for key in objects:
            path = tmp_path / "in" / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(objects[key] if isinstance(objects, dict) else b"x")
        return pattern_fit(SourceConfig(input_uri=f"file://{tmp_path}/in", key_pattern=pattern, **options))

    return call


def test_loose_images_are_read_by_their_paths(fit):
    found = fit(["a/2024-06-03/L1/1.png", "a/2024-06-03/L1/c/2.png", "b.png", "b/notes.txt", ".hidden/x/y/1.png"])
    first, second, third = found.read
    assert first == PathRead(
        "a/2024-06-03/L1/1.png", {"line": "a", "date": "2024-06-03", "lot": "L1", "name": "1.png"}, "2024-06-03", ""
    )
    assert (second.folders, third.keys, third.date) == ("c", None, "none")
    assert found.fitting == [first, second] and (found.more, found.listed) == (False, 5)


def test_members_that_are_not_asked_for_do_not_count(fit):
    assert [path.path for path in fit(["a/1.png", "b/1.jpg"], "{lot}/{name}", members="*.jpg").read] == ["b/1.jpg"]


def test_a_shard_is_read_by_its_own_path_if_that_tells(fit):
    """Its content is not looked at: these are no tars."""
    found = fit(["a/2024-06-03/L1/1.tar", "a/2024-06-03/L2/deeper/1.tar"])
    assert [(path.keys["lot"], path.date, path.folders) for path in found.read] == [
        ("L1", "2024-06-03", ""),
        ("L2", "2024-06-03", "deeper"),
    ]
    (lots,) = fit(["a/2024-06-03/L7.tar"], "{line}/{date}/{lot}.tar/{name}").read[:1]
    assert (lots.keys["lot"], lots.folders) == ("L7", "")


@pytest.mark.parametrize(
    ("pattern", "lot"),
    [("{line}/{date}/{lot}/{serial}.jpg", "s.tar"), ("{line}/{date}/{shard}.tar/{lot}/{serial}.jpg", "7")],
)
def test_a_member_tells_what_the_path_of_its_shard_does_not(fit, pattern, lot):
    (path,) = fit({"a/2024-06-03/s.tar": tar("notes.txt", "./7/12.jpg" if "shard" in pattern else "12.jpg")}, pattern).read
    assert (path.keys["lot"], path.keys["serial"], path.date) == (lot, "12", "2024-06-03")


def test_a_row_s_name_tells_too(fit):
    shards = {"s.parquet": parquet(["L1/1.png", "L2/2.png"])}
    (path,) = fit(shards, "{shard}/{lot}/{serial}.png", id_column="id").read
    assert (path.path, path.keys["lot"]) == ("s.parquet/L1/1.png", "L1")
    assert fit(shards, "{shard}/{lot}/{serial}.png").fitting == []  # rows are named by their numbers


def test_few_shards_are_opened_and_damaged_ones_tell_nothing(fit):
    shards = {f"{number:02}.tar": tar("7/1.jpg") for number in range(20)} | {"19.tar": b"damaged" * 200}
    found = fit(shards, "{shard}/{lot}/{serial}.jpg")
    assert [path.path for path in found.read] == ["00.tar/7/1.jpg", "09.tar/7/1.jpg"]
    assert found.unopened == 20 - SHARDS_OPENED


@pytest.fixture
def asked(monkeypatch):
    """The bytes of each request for a part of an object, of which a shard may take 16,384 in all."""
    sizes, whole = [], LocalStore.get_range
    monkeypatch.setattr(pattern_fit_module, "SHARD_BYTES", 1 << 14)
    monkeypatch.setattr(pattern_fit_module, "PIECE_BYTES", 1 << 12)

    def get_range(self, key, start, length, etag=None):
        sizes.append(length)
        return whole(self, key, start, length, etag)

    monkeypatch.setattr(LocalStore, "get_range", get_range)
    return sizes


MUCH = Random(1).randbytes(1 << 16)


def test_a_large_archive_is_not_read_to_its_end(fit, asked):
    """Its one picture stands behind what is left out, which is also where the stream is cut."""
    shards = {f"{number}.tar.gz": gzip.compress(tar(("notes.bin", MUCH), "7/1.jpg")) for number in range(5)}
    found = fit(shards, "{shard}/{lot}/{serial}.jpg")
    assert (found.read, found.unopened, sum(asked)) == ([], 5, SHARDS_OPENED << 14)


def test_the_only_picture_of_a_large_archive_is_found_if_it_stands_first(fit, asked):
    (path,) = fit({"1.tar.gz": gzip.compress(tar("7/1.jpg", ("notes.bin", MUCH)))}, "{shard}/{lot}/{serial}.jpg").read
    assert path.path == "1.tar.gz/7/1.jpg" and sum(asked) == 1 << 14


def test_of_large_pictures_in_a_tar_only_the_names_are_read(fit, asked):
    found = fit({"1.tar": tar(("7/1.jpg", JPEG + MUCH), ("7/2.jpg", JPEG + MUCH))}, "{shard}/{lot}/{serial}.jpg")
    assert [path.path for path in found.read] == ["1.tar/7/1.jpg"] and sum(asked) == 2 << 12


def test_a_null_of_hive_is_no_value_and_fits(fit):
    (path,) = fit(["line=a/date=__HIVE_DEFAULT_PARTITION__/1.png"], "line={line}/date={date}/{name}").read
    assert path.keys == {"line": "a", "name": "1.png"} and path.date == "none"


def test_what_is_no_image_or_a_stray_folder_does_not_decide(fit):
    litter = [f"a/{number:04}.txt" for number in range(LOOKED_AT)]
    stray = [f"b/c/{number:04}.png" for number in range(LOOKED_AT + 200)]
    found = fit([*litter, *stray, "l/2024-06-03/L1/1.png"])
    assert [path.path for path in found.fitting] == ["l/2024-06-03/L1/1.png"]
    assert 0 < len(found.read) - 1 <= LOOKED_AT


def test_a_ready_listing_is_read_as_it_is_written(fit, tmp_path):
    rows = ["key,size,etag", "z/2024-06-03/L9/1.png,1,e", *(f"a/{number}.txt,1,e" for number in range(2 * LOOKED_AT))]
    (tmp_path / "l.csv").write_text("\n".join(rows))
    source = SourceConfig(input_uri=str(tmp_path), key_pattern=PATTERN)
    found = pattern_fit(source, ListingFile(tmp_path / "l.csv"))
    assert [path.keys["lot"] for path in found.read] == ["L9"] and found.listed == LOOKED_AT
    (tmp_path / "l.csv").write_text("\n".join([rows[0], *reversed(rows[1:])]))
    assert [path.keys["lot"] for path in pattern_fit(source, ListingFile(tmp_path / "l.csv")).read] == ["L9"]


@pytest.mark.parametrize(
    ("key", "requests", "listed"),
    [("{}/2024-06-03/{:05}/1.png", 1, LOOKED_AT), ("{}/{:05}.png", FURTHER + 1, (FURTHER + 1) * LOOKED_AT)],
    ids=["one request if something fits", "few otherwise"],
)
def test_a_bucket_is_asked_for_few_pages(monkeypatch, key, requests, listed):
    """Each folder of the bucket holds more than a page."""
    asked = []
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")

    def page(self, request):
        keys = [f"in/{key.format(FOLDERS[len(asked)], number)}" for number in range(1000)]
        asked.append(request)
        now = datetime(2026, 1, 1, tzinfo=UTC)
        found = [{"Key": key, "Size": 1, "ETag": '"e"', "LastModified": now} for key in keys]
        return {"Contents": found, "IsTruncated": True, "NextContinuationToken": "t"}

    monkeypatch.setattr(S3Store, "_page", page)
    found = pattern_fit(SourceConfig(input_uri="s3://plant/in", key_pattern=PATTERN))
    assert (len(asked), found.listed, found.more) == (requests, listed, True)
    assert [request.get("StartAfter") for request in asked] == [None, *(f"in/{folder}0" for folder in FOLDERS[: requests - 1])]
