import pytest

from pipeline.input.config import SourceConfig
from pipeline.stages.joining.node_view import Places, lacks
from pipeline.storage.objects import Denied, Object, Unreachable
from pipeline.storage.s3 import S3Store
from pipeline.storage.store import open_store

PROBE = "_flowscore/ledgers/m/node-probe-1"


@pytest.fixture
def places(place):
    """An input of one image and an output with the driver's probe, on a disk and on S3."""
    open_store(f"{place}/in").put("a.png", b"x")
    open_store(f"{place}/out").put(PROBE, b"1")
    first = next(iter(open_store(f"{place}/in").list()))
    return Places(SourceConfig(input_uri=f"{place}/in"), first, f"{place}/out", PROBE)


def test_a_node_that_can_do_everything_writes_beside_the_probe(places):
    assert lacks(places) == []
    written = [entry.key for entry in open_store(places.output_uri).list()]
    assert len(written) == 2 and all(key.startswith(PROBE) for key in written)


def test_an_empty_input_is_only_listed(places):
    assert lacks(places._replace(first=None)) == []


def test_a_store_that_refuses_to_list_is_not_asked_to_where_a_file_says_what_it_holds(place, places, monkeypatch):
    store = type(open_store(place))
    whole = store.list

    def refuses(self, *rest):
        if self.uri.endswith("/in"):
            raise Denied("AccessDenied (403)")
        return whole(self, *rest)

    monkeypatch.setattr(store, "list", refuses)
    assert [lack.step for lack in lacks(places)] == ["list the input"]
    assert lacks(places._replace(lists=False)) == []
    (found,) = lacks(places._replace(lists=False, first=Object("b.png", 1, "e")))
    assert found.step == "read the input"


def test_a_node_without_the_driver_s_files_lacks_both_places(places):
    first = Object("b.png", 1, "e")
    found = lacks(places._replace(first=first, probe="_flowscore/ledgers/m/node-probe-2"))
    assert [lack.step for lack in found] == ["read the input", "read the output"]
    assert all("the driver sees it" in lack.said for lack in found)
    assert [entry.key for entry in open_store(places.output_uri).list()] == [PROBE]  # it writes nothing elsewhere


def test_an_output_that_cannot_be_written(tmp_path, monkeypatch):
    store = open_store(str(tmp_path / "out"))
    store.put(PROBE, b"1")
    monkeypatch.setattr(type(store), "put_new", lambda *_: (_ for _ in ()).throw(Denied("read-only file system")))
    found = lacks(Places(SourceConfig(input_uri=str(tmp_path)), None, str(tmp_path / "out"), PROBE))
    assert [(lack.step, lack.said, lack.way) for lack in found] == [
        ("write to the output", "read-only file system", "its own disks")
    ]


@pytest.mark.parametrize("error", [Denied("AccessDenied (403)"), Unreachable("Connect timeout")])
def test_what_storage_says_is_kept_with_the_way_there(s3_bucket, monkeypatch, error):
    open_store(f"{s3_bucket}/out").put(PROBE, b"1")
    monkeypatch.setattr(S3Store, "get_range", lambda *_: (_ for _ in ()).throw(error))
    first = Object("a.png", 1, "e")
    (found,) = lacks(Places(SourceConfig(input_uri=f"{s3_bucket}/in"), first, f"{s3_bucket}/out", PROBE))
    assert (found.step, found.said, found.away) == ("read the input", str(error), isinstance(error, Unreachable))
    assert found.way.startswith("credentials from the environment (AWS_ACCESS_KEY_ID), endpoint http://127.0.0.1:")


def test_a_file_that_only_the_driver_may_read(tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(b"x")
    open_store(str(tmp_path / "out")).put(PROBE, b"1")

    def refused(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pipeline.storage.local.open", refused, raising=False)
    (found, *_) = lacks(
        Places(SourceConfig(input_uri=str(tmp_path / "in")), Object("a.png", 1, ""), str(tmp_path / "out"), PROBE)
    )
    assert found.step == "read the input" and "Permission denied" in found.said
