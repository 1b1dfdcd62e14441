import errno
import os
import subprocess
import threading
import time

import pytest
from own_time import set_time

from pipeline.storage import local as objects_local
from pipeline.storage import objects
from pipeline.storage.local import LocalStore
from pipeline.storage.objects import BadUri, Changed, Denied, Gone, Refused, Unreachable
from pipeline.storage.store import open_store


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


def test_a_file_that_is_made_readable_has_another_stamp_and_the_same_etag(tmp_path):
    (tmp_path / "x").write_bytes(b"a")
    (refused,) = open_store(tmp_path).list()
    time.sleep(0.02)  # the kernel's clock of files ticks every few ms
    (tmp_path / "x").chmod(0o600)
    (readable,) = open_store(tmp_path).list()
    assert readable[:3] == refused[:3] and readable.stamp != refused.stamp


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

    set_time(monkeypatch, objects, sleep=lambda seconds: None)
    monkeypatch.setattr(objects_local, "open", fail, raising=False)
    for call in (lambda: open_store(tmp_path).get("x"), lambda: open_store(tmp_path).put_new("x", b"")):
        calls.clear()
        with pytest.raises(error, match="'x'"):
            call()
        assert len(calls) == (7 if error is Unreachable else 1)


def test_a_file_that_cannot_be_opened_is_refused_and_one_that_can_later_is_read(tmp_path, monkeypatch):
    (tmp_path / "x").write_bytes(b"content")
    store = open_store(tmp_path)
    (entry,) = store.list()
    real, refusals = open, [3]

    def fail(path, *arguments, **named):
        refusals[0] -= 1
        if refusals[0] >= 0:
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path, *arguments, **named)

    set_time(monkeypatch, objects, sleep=lambda seconds: None)
    monkeypatch.setattr(objects_local, "open", fail, raising=False)
    with pytest.raises(Refused, match="'x'"):
        store.get("x", entry.etag, 7)
    refusals[0] = 2
    assert store.get("x", entry.etag, 7) == b"content"


@pytest.mark.parametrize("uri", ["", "gs://bucket/x", "s3://", "s3:///key", "file://host/x", "http://host/x"])
def test_other_uris_are_refused(uri):
    with pytest.raises(BadUri, match="uri must be"):
        open_store(uri)


def test_a_file_is_no_store(tmp_path):
    (tmp_path / "x.tar").write_bytes(b"")
    with pytest.raises(BadUri, match="directory"):
        open_store(tmp_path / "x.tar")
    assert open_store(f"file://{tmp_path}").uri == open_store(tmp_path).uri == f"file://{tmp_path}"


def test_a_name_that_reads_like_an_escaped_one_has_a_key_of_its_own(tmp_path):
    names = [b"caf\xe9.jpg", b"caf\\xe9.jpg", b"caf\\x5cxe9.jpg", b"caf\\xE9.jpg", b"caf\\x41.jpg", b"\\.jpg", b"\\x5c"]
    for name in names:
        with open(os.path.join(os.fsencode(tmp_path), name), "wb") as file:
            file.write(name)
    store = open_store(tmp_path)
    entries = list(store.list())
    assert len({entry.key for entry in entries}) == len(names)
    assert [entry.key for entry in entries] == sorted(entry.key for entry in entries)
    assert sorted(store.get(entry.key, entry.etag) for entry in entries) == sorted(names)
    for entry in entries:  # a listing goes on after any of them
        assert [later.key for later in store.list(start_after=entry.key)] == [e.key for e in entries if e.key > entry.key]
        for length in range(len(entry.key) + 1):
            prefix = entry.key[:length]
            assert [found.key for found in store.list(prefix)] == [e.key for e in entries if e.key.startswith(prefix)]


def test_a_listing_of_one_key_looks_at_no_other(tmp_path, monkeypatch):
    """A ledger asks for one of as many objects as there were nights."""
    for number in range(50):
        (tmp_path / f"{number:03d}.png").write_bytes(b"")
    looked, original = [], LocalStore._is_directory
    monkeypatch.setattr(LocalStore, "_is_directory", lambda store, entry: looked.append(entry.name) or original(store, entry))
    assert objects.listed(open_store(tmp_path), "007.png").key == "007.png"
    assert set(looked) == {b"007.png"}


def test_any_name_is_listed_and_read(tmp_path):
    names = [
        "a\nb",
        "q'\"`;--",
        "%2e%2e%2f",
        "*?[]",
        "#x",
        "-rf",
        " ",
        "<b>",
        "é",
        "e\u0301",
        "\u202egpj",
        "n" * 255,
        "a\r\t\x7f",
    ]
    for name in names:
        (tmp_path / name).write_text(name)
    store = open_store(tmp_path)
    entries = list(store.list())
    assert [entry.key for entry in entries] == sorted(names)
    assert [store.get(entry.key, entry.etag).decode() for entry in entries] == sorted(names)


@pytest.fixture
def nested(tmp_path):
    """Makes directories in one another with a file in the last, without naming the whole path, and removes them again."""

    def make(name, depth):
        here = os.open(tmp_path, os.O_RDONLY)
        for _ in range(depth):
            os.mkdir(name, dir_fd=here)
            below = os.open(name, os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = below
        os.close(os.open("x.jpg", os.O_CREAT | os.O_WRONLY, dir_fd=here))
        os.close(here)

    yield make
    subprocess.run(["rm", "-rf", tmp_path], check=True)  # Python's own removal calls itself for each directory


def test_directories_nested_deeper_than_calls(tmp_path, nested):
    nested("d", 1500)
    (tmp_path / "z.jpg").touch()
    store = open_store(tmp_path)
    deep = "d/" * 1500 + "x.jpg"
    assert [entry.key for entry in store.list()] == [deep, "z.jpg"]
    assert [entry.key for entry in store.list(start_after="d/d/d")] == [deep, "z.jpg"]
    assert [entry.key for entry in store.list(start_after=deep)] == ["z.jpg"]
    assert store.get(deep) == b""


def test_a_path_too_long_to_be_opened_is_left_out_with_a_warning(tmp_path, nested, monkeypatch):
    said = []
    monkeypatch.setattr(objects_local.log, "warning", lambda text, *cells: said.append(text % cells))
    nested("d" * 200, 30)
    (tmp_path / "z.jpg").touch()
    assert [entry.key for entry in open_store(tmp_path).list()] == ["z.jpg"]
    assert len(said) == 1 and said[0].startswith("not listed: the path of ddd") and "is too long" in said[0]


def test_links_in_a_circle_and_things_that_are_no_files(tmp_path):
    (tmp_path / "a.jpg").symlink_to("b.jpg")
    (tmp_path / "b.jpg").symlink_to("a.jpg")
    (tmp_path / "self.jpg").symlink_to("self.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "to-pipe.jpg").symlink_to("pipe.jpg")
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    (tmp_path / "image.jpg").write_bytes(b"i")
    store = open_store(tmp_path)
    assert [entry.key for entry in store.list()] == ["image.jpg"]
    for key in ("a.jpg", "self.jpg", "pipe.jpg", "to-pipe.jpg", "zero.jpg"):
        with pytest.raises(Gone):  # a pipe that nobody writes to is not waited for
            store.get(key)


@pytest.mark.parametrize("trap", ["link", "linked folder", "pipe", "folder"])
def test_what_was_put_in_place_of_a_listed_file_is_not_read(tmp_path, trap):
    (tmp_path / "secret").write_bytes(b"secret")
    root = tmp_path / "root"
    (root / "d").mkdir(parents=True)
    (root / "d" / "secret").write_bytes(b"image.")
    store = open_store(root)
    (entry,) = store.list()
    (root / "d" / "secret").unlink()
    if trap == "link":
        (root / "d" / "secret").symlink_to(tmp_path / "secret")
    elif trap == "pipe":
        os.mkfifo(root / "d" / "secret")
    elif trap == "folder":
        (root / "d" / "secret").mkdir()
    else:
        (root / "d").rmdir()
        (root / "d").symlink_to(tmp_path)
    for etag in (None, entry.etag):
        with pytest.raises(Gone):
            store.get(entry.key, etag)


def test_a_link_that_appears_between_check_and_opening_is_not_followed(tmp_path, monkeypatch):
    (tmp_path / "secret").write_bytes(b"secret")
    root = tmp_path / "root"
    root.mkdir()
    (root / "x").write_bytes(b"image")
    real = os.path.realpath

    def swap(path, **options):
        found = real(path, **options)
        (root / "x").unlink()
        (root / "x").symlink_to(tmp_path / "secret")
        return found

    store = open_store(root)
    monkeypatch.setattr(objects_local.os.path, "realpath", swap)
    with pytest.raises(Gone):
        store.get("x")


def test_only_what_was_left_unfinished_long_ago_is_deleted(tmp_path):
    store = open_store(tmp_path)
    store.put("deep/er/whole", b"content")
    left, under_way = (tmp_path / "deep" / f"{name}{objects_local.PARTIAL}" for name in ("left", "under-way"))
    for path in (left, under_way, tmp_path / "deep" / "er" / "whole"):
        path.write_bytes(b"con")
    for path in (left, tmp_path / "deep" / "er" / "whole"):
        os.utime(path, (0, time.time() - objects_local.UNFINISHED_S - 60))
    assert store.delete_unfinished() == 1
    assert [entry.key for entry in store.list()] == ["deep/er/whole"]
    assert under_way.exists() and not left.exists()


# --- links that are followed ---


@pytest.fixture
def linked(tmp_path):
    """A folder of which every entry is a link that leads outside, and what they lead to."""
    there, root = tmp_path / "there", tmp_path / "root"
    (there / "lot").mkdir(parents=True)
    root.mkdir()
    for name in ("a.jpg", "lot/b.jpg", "lot/c.jpg"):
        (there / name).write_bytes(name.encode())
    (root / "a.jpg").symlink_to(there / "a.jpg")
    (root / "lot").symlink_to(there / "lot")
    (root / "lot.jpg").symlink_to(there / "lot" / "b.jpg")
    return root


def test_links_that_lead_outside_are_counted_and_followed_only_when_asked(linked, monkeypatch):
    said = []
    monkeypatch.setattr(objects_local.log, "warning", lambda text, *cells: said.append(text % cells))
    store = open_store(linked)
    assert list(store.list()) == [] and store.links_left_out() == 3
    assert len(said) == 1 and "3 links below" in said[0] and "--follow-links" in said[0]
    store = open_store(linked, follow_links=True)
    entries = list(store.list())
    assert [entry.key for entry in entries] == ["a.jpg", "lot.jpg", "lot/b.jpg", "lot/c.jpg"]
    assert [store.get(e.key, e.etag, e.size) for e in entries] == [b"a.jpg", b"lot/b.jpg", b"lot/b.jpg", b"lot/c.jpg"]
    assert store.get_range("lot/b.jpg", 4, 3) == b"b.j" and store.get_tail("lot/b.jpg", 3) == (b"jpg", 9)
    assert [entry.key for entry in store.list("lot/")] == ["lot/b.jpg", "lot/c.jpg"]
    assert [entry.key for entry in store.list(start_after="lot.jpg")] == ["lot/b.jpg", "lot/c.jpg"]
    assert store.links_left_out() == 0 and len(said) == 1


def test_links_in_a_circle_are_followed_once(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(objects_local.log, "warning", lambda text, *cells: said.append(text % cells))
    root = tmp_path / "root"
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
        (root / name / "x.jpg").write_bytes(b"i")
    (root / "a" / "to-b").symlink_to(root / "b")
    (root / "b" / "to-a").symlink_to(root / "a")
    (root / "up").symlink_to(tmp_path)
    (root / "self").symlink_to("self")
    (root / "broken.jpg").symlink_to("nowhere")
    store = open_store(root, follow_links=True)
    assert [entry.key for entry in store.list()] == ["a/to-b/x.jpg", "a/x.jpg", "b/to-a/x.jpg", "b/x.jpg"]
    assert len(said) == 1 and "they stand in" in said[0]
    assert store.links_left_out() == len(["a/to-b/to-a", "b/to-a/to-b", "broken.jpg", "self", "up/root"])


def test_what_a_followed_link_leads_to_is_pinned(linked):
    store = open_store(linked, follow_links=True)
    entry = next(iter(store.list()))
    (linked / "a.jpg").resolve().write_bytes(b"other bytes")
    with pytest.raises(Changed):
        store.get(entry.key, entry.etag, entry.size)
    (linked / "a.jpg").resolve().unlink()
    with pytest.raises(Gone):
        store.get(entry.key, entry.etag, entry.size)
