import errno
import os
import pickle
import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pipeline import objects, objects_local, storage
from pipeline.storage import BadUri, Changed, Denied, Gone, Object, StorageError, Unreachable, open_store

KEYS = [
    *("a", "a.jpg", "a/b.jpg", "a/b/c.jpg", "a0", "b c.png", "b%20c.png", "b%", "q'u\"o\\te.png", "new\nline.png"),
    *("tab\t.png", "ü/ñ.jpg", "\uffff.png", "\U0001f600.png", "plus+and&eq=que?ha#.png", "~t*x|<>.png", "\x01.png"),
]
ONLY_S3 = ["a//b.jpg", "/lead.jpg", "trail/", "dot/./x", "dot/../y"]


def keys_for(store):
    wanted = [*KEYS, *ONLY_S3] if store.uri.startswith("s3://") else [k for k in KEYS if k != "a"]  # `a` is a folder
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
    assert entry == Object("x", 3, entry.etag)
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
    storage.upload_directory(source, place)
    copy = storage.local_copy(place, tmp_path / "cache")
    assert (copy / "config.json").read_bytes() == b"{}" and (copy / "deep" / "weights").read_bytes() == b"w"
    assert storage.local_copy(place, tmp_path / "cache") == copy
    if place.startswith("s3://"):
        open_store(place).put("config.json", b"[]")
        changed = storage.local_copy(place, tmp_path / "cache")
        assert changed != copy and (changed / "config.json").read_bytes() == b"[]"
        with pytest.raises(Gone):
            storage.local_copy(place + "/nothing", tmp_path / "cache")


def test_other_clients_read_by_the_same_environment(place):
    import deltalake
    import pyarrow as pa

    open_store(place).put("x/y", b"content")
    assert storage.filesystem(place).cat_file(f"{place.removeprefix('s3://')}/x/y") == b"content"
    uri = f"{place}/table"
    deltalake.write_deltalake(uri, pa.table({"a": [1]}), storage_options=storage.storage_options(uri))
    assert deltalake.DeltaTable(uri, storage_options=storage.storage_options(uri)).to_pyarrow_table().num_rows == 1


# --- local directories ---


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


# --- faults of S3, from a server that misbehaves on purpose ---


class Faulty(BaseHTTPRequestHandler):
    """Answers by the script of the server: a status, "cut" (body breaks off) or "drop" (no answer)."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def respond(self):
        self.server.requests.append((self.command, self.path, dict(self.headers)))
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        step = self.server.script.pop(0) if self.server.script else 200
        if step == "lost":  # done, but the answer never arrives
            step, self.server.created = "drop", True
        if step == "drop":
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        code = ""
        if isinstance(step, tuple):
            step, code = step
        if step == 200 and self.server.created and self.headers.get("If-None-Match"):
            step, code = 412, "PreconditionFailed"
        body = f"<Error><Code>{code}</Code></Error>".encode()
        if step in (200, "cut"):
            body = b"content" if self.command == "GET" else b""
        self.send_response(200 if step == "cut" else step)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"e"')
        self.end_headers()
        self.wfile.write(body[:3] if step == "cut" else body)
        if step == "cut":
            self.close_connection = True

    do_GET = do_PUT = do_DELETE = respond


@pytest.fixture
def faulty(monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Faulty)
    server.script, server.requests, server.created = [], [], False
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setattr(objects.time, "sleep", lambda seconds: None)
    yield server
    server.shutdown()
    server.server_close()


TRANSIENT = [500, 502, 503, 504, 429, 408, (503, "SlowDown"), (400, "RequestTimeout"), "cut", "drop"]


@pytest.mark.parametrize("fault", [*TRANSIENT, (409, "ConditionalRequestConflict"), (400, "ExpiredToken")], ids=str)
def test_transient_faults_are_tried_again(faulty, fault):
    faulty.script = [fault] * 6
    assert open_store("s3://bucket").get("k", "e") == b"content"
    assert len(faulty.requests) == 7
    assert all(_lower(headers)["if-match"] == '"e"' for _, _, headers in faulty.requests)


def _lower(headers):
    return {name.lower(): value for name, value in headers.items()}


@pytest.mark.parametrize("fault", TRANSIENT, ids=str)
def test_lasting_faults_are_unreachable(faulty, fault):
    faulty.script = [fault] * 8
    with pytest.raises(Unreachable, match="s3://bucket/k"):
        open_store("s3://bucket").get("k")
    assert len(faulty.requests) == 7 + 1  # obstore's one, and botocore's


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ((403, "AccessDenied"), Denied),
        ((403, "SignatureDoesNotMatch"), Denied),
        ((401, ""), Denied),
        ((404, "NoSuchBucket"), Denied),
        ((400, "InvalidArgument"), Denied),
        ((404, "NoSuchKey"), Gone),
        ((412, "PreconditionFailed"), Changed),
    ],
)
def test_other_faults_are_raised_at_once(faulty, fault, error):
    faulty.script = [fault] * 2
    with pytest.raises(error):
        open_store("s3://bucket").get("k")
    assert len(faulty.requests) == 1 + 1
    faulty.script = [fault]
    with pytest.raises(error):
        open_store("s3://bucket").get_range("k", 0, 5)
    assert len(faulty.requests) == 3


def test_a_lost_answer_to_put_new_counts_as_exists_already(faulty):
    faulty.script = ["lost"]
    assert open_store("s3://bucket").put_new("k", b"body") is False
    assert [headers["If-None-Match"] for _, _, headers in faulty.requests] == ["*", "*"]


def test_whole_objects_are_one_request(faulty):
    store = open_store("s3://bucket")
    for key in ("k", "a b%c/d+e.jpg", "a//b"):
        faulty.requests.clear()
        assert store.get(key) == b"content"
        assert [method for method, _, _ in faulty.requests] == ["GET"]


def test_a_shortcut_that_never_works_is_given_up(faulty):
    store = open_store("s3://bucket")
    faulty.script = [(301, "PermanentRedirect"), 200, 200]
    assert store.get("k") == store.get("k") == b"content"
    assert len(faulty.requests) == 3
    faulty.requests.clear()
    assert store.get("k") == b"content" and len(faulty.requests) == 1 and store._direct is None


def test_a_forked_process_reads_without_the_threads_of_its_parent(faulty):
    store = open_store("s3://bucket")
    assert store.get("k") == b"content"
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        os._exit(0 if store.get("k") == b"content" else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_a_gateway_that_ignores_conditions_is_found_out(faulty):
    with pytest.raises(StorageError, match="If-None-Match"):
        storage.check_conditional_put(open_store("s3://bucket"), "probe")


def test_waits_grow_and_vary(monkeypatch):
    waits = []
    monkeypatch.setattr(objects.time, "sleep", waits.append)

    def fail():
        raise Unreachable("x")

    with pytest.raises(Unreachable):
        objects.retry(fail, attempts=9)
    tops = [0.25, 0.5, 1, 2, 4, 8, 10, 10]
    assert len(waits) == 8 and all(top / 2 <= wait < top for wait, top in zip(waits, tops, strict=True))


def test_attempts_and_endpoint_come_from_the_environment(faulty, monkeypatch):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    faulty.script = [500] * 9
    with pytest.raises(Unreachable):
        open_store("s3://bucket").get_range("k", 0, 1)
    assert len(faulty.requests) == 2
    monkeypatch.setenv("AWS_ENDPOINT_URL", "nonsense")
    with pytest.raises(BadUri, match="AWS_ENDPOINT_URL"):
        open_store("s3://bucket")


def test_no_name_and_no_credentials(faulty, monkeypatch):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://no-such-host.invalid")
    with pytest.raises(Unreachable):
        open_store("s3://bucket").get("k")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    with pytest.raises(Denied, match="credentials"):
        open_store("s3://bucket").get("k")


def test_a_listing_out_of_order_is_refused(faulty, monkeypatch):
    store = open_store("s3://bucket")
    page = {"Contents": [{"Key": k, "Size": 1, "ETag": '"e"'} for k in ("b", "a")], "IsTruncated": False}
    monkeypatch.setattr(store, "_call", lambda key, call: page)
    with pytest.raises(StorageError, match="order"):
        list(store.list())
