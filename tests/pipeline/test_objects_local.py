import errno
import os
import threading

import pytest

from pipeline import objects, objects_local
from pipeline.storage import BadUri, Changed, Denied, Gone, Unreachable, open_store


def test_links_never_lead_outside(tmp_path):
    (tmp_path / "secret").write_bytes(b"s")
    root = tmp_path / "root"
    (root / "folder").mkdir(parents=True)
    (root / "in.jpg").write_bytes(b"i")
    (root / "inside.jpg").symlink_to("in.jpg")
    (root / "outside.jpg").symlink_to(tmp_path / "secret")
    (root / "broken.jpg").symlink_to("nowhere")
    (root / "loop").symlink_to(root)
    (root / "away").symlink_to(tmp_path)
    store = open_store(root)
    assert [entry.key for entry in store.list()] == ["in.jpg", "inside.jpg"]
    assert list(store.list("away/")) == []
    assert store.get("inside.jpg") == b"i"
    for key in ("outside.jpg", "away/secret", "../secret", "folder/../../secret", "/etc/hostname", "folder", ""):
        with pytest.raises(Gone):
            store.get(key)


def test_names_that_are_not_utf8_are_escaped(tmp_path):
    for name in (b"caf\xe9.jpg", b"\xff/x.jpg"):
        path = os.path.join(os.fsencode(tmp_path), name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(b"c")
    store = open_store(tmp_path)
    assert [entry.key for entry in store.list()] == ["\\xff/x.jpg", "caf\\xe9.jpg"]
    assert [store.get(entry.key, entry.etag) for entry in store.list()] == [b"c", b"c"]


def test_a_kill_while_writing_leaves_nothing_visible(tmp_path):
    store = open_store(tmp_path)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        real = os.fsync
        os.fsync = lambda number: (real(number), os.write(writer, b"."), threading.Event().wait())
        store.put_new("commit", b"x" * 1000)
        os._exit(0)
    os.read(reader, 1)
    os.kill(child, 9)
    os.waitpid(child, 0)
    assert list(store.list()) == [] and len(os.listdir(tmp_path)) == 1
    assert store.put_new("commit", b"y") and store.get("commit") == b"y"


def test_a_file_changed_while_it_is_read_is_changed(tmp_path):
    (tmp_path / "x").write_bytes(b"a" * 1000)
    store = open_store(tmp_path)
    (entry,) = store.list()
    os.truncate(tmp_path / "x", 10)
    with pytest.raises(Changed):
        store.get("x", entry.etag)


@pytest.mark.parametrize(("number", "error"), [(errno.EACCES, Denied), (errno.ENOSPC, Denied), (errno.EIO, Unreachable)])
def test_faults_of_the_file_system_have_names(tmp_path, monkeypatch, number, error):
    calls = []

    def fail(*arguments, **named):
        calls.append(arguments)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(objects.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(objects_local, "open", fail, raising=False)
    for call in (lambda: open_store(tmp_path).get("x"), lambda: open_store(tmp_path).put_new("x", b"")):
        calls.clear()
        with pytest.raises(error, match="'x'"):
            call()
        assert len(calls) == (7 if error is Unreachable else 1)


@pytest.mark.parametrize("uri", ["", "gs://bucket/x", "s3://", "s3:///key", "file://host/x", "http://host/x"])
def test_other_uris_are_refused(uri):
    with pytest.raises(BadUri, match="uri must be"):
        open_store(uri)


def test_a_file_is_no_store(tmp_path):
    (tmp_path / "x.tar").write_bytes(b"")
    with pytest.raises(BadUri, match="directory"):
        open_store(tmp_path / "x.tar")
    assert open_store(f"file://{tmp_path}").uri == open_store(tmp_path).uri == f"file://{tmp_path}"
