"""Faults of S3, from a server that misbehaves on purpose; what works is tested in test_storage.py, on a real one."""

import os
import signal
import socket
import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from own_time import set_time

from pipeline.storage import objects
from pipeline.storage import store as storage
from pipeline.storage.objects import Archived, BadUri, Changed, Denied, Gone, Refused, StorageError, Unreachable
from pipeline.storage.store import open_store

LISTING = (
    b"<ListBucketResult><IsTruncated>false</IsTruncated><KeyCount>1</KeyCount>"
    b"<Contents><Key>k</Key><Size>7</Size><ETag>&quot;e&quot;</ETag></Contents></ListBucketResult>"
)


class Faulty(BaseHTTPRequestHandler):
    """Answers by the script of the server: a status, "cut" (body breaks off), "drop" (no answer), "short" (a part of the body,
    and the length says that this is all) or (206, the range that it states, bytes of the body)."""

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
        code, stated, length = "", None, 3 if step == "short" else None
        if isinstance(step, tuple) and step[0] == 206:
            step, stated, length = step
        elif isinstance(step, tuple):
            step, code = step
        step = 200 if step == "short" else step
        if step == 200 and self.server.created and self.headers.get("If-None-Match"):
            step, code = 412, "PreconditionFailed"
        body = f"<Error><Code>{code}</Code></Error>".encode()
        if step in (200, 206, "cut"):
            body = b"content"[:length] if self.command == "GET" else b""
            body = LISTING if "list-type=2" in self.path else body
        self.send_response(200 if step == "cut" else step)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"e"')
        if stated:
            self.send_header("Content-Range", stated)
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
    set_time(monkeypatch, objects, sleep=lambda seconds: None)
    yield server
    server.shutdown()
    server.server_close()


TRANSIENT = [500, 502, 503, 504, 429, 408, (503, "SlowDown"), (400, "RequestTimeout"), "cut", "drop"]


@pytest.mark.parametrize("fault", [*TRANSIENT, (409, "ConditionalRequestConflict"), (400, "ExpiredToken")], ids=str)
def test_transient_faults_are_tried_again(faulty, fault):
    faulty.script = [fault] * 6
    assert open_store("s3://bucket").get("k", "e", 7) == b"content"
    assert len(faulty.requests) == 7
    assert all(_lower(headers)["if-match"] == '"e"' for _, _, headers in faulty.requests)


def _lower(headers):
    return {name.lower(): value for name, value in headers.items()}


@pytest.mark.parametrize("fault", TRANSIENT, ids=str)
def test_lasting_faults_are_unreachable(faulty, fault):
    faulty.script = [fault] * 8
    with pytest.raises(Unreachable, match="s3://bucket/k"):
        open_store("s3://bucket").get("k", size=7)
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
        open_store("s3://bucket").get("k", size=7)
    assert len(faulty.requests) == 1 + 1
    faulty.script = [fault]
    with pytest.raises(error):
        open_store("s3://bucket").get_range("k", 0, 5)
    assert len(faulty.requests) == 3


def test_a_length_that_lies_is_found_out(faulty):
    faulty.script = ["short"] * 3
    assert open_store("s3://bucket").get("k", "e", 7) == b"content"
    assert len(faulty.requests) == 4
    faulty.script = ["short"] * 8
    with pytest.raises(Unreachable, match="3 of 7 bytes"):
        open_store("s3://bucket").get("k", "e", 7)


def test_a_range_is_held_against_what_it_states(faulty):
    store = open_store("s3://bucket")
    faulty.script = [(206, "bytes 0-6/7", 3), (206, "bytes 0-6/7", 7)]
    assert store.get("k") == b"content"
    faulty.script = [(206, "bytes 2-5/9", 2), (206, "bytes 2-5/9", 4)]
    assert len(store.get_range("k", 2, 4)) == 4
    faulty.script = [(206, "bytes 2-8/9", 6), (206, "bytes 2-8/9", 7)]
    assert store.get_tail("k", 7) == (b"content", 9)
    assert len(faulty.requests) == 6
    faulty.script = [200] * 7
    with pytest.raises(Unreachable, match="without one"):
        store.get_range("k", 2, 4)


@pytest.mark.parametrize(("status", "error"), [(404, Gone), (412, Changed)])
def test_what_is_listed_as_it_was_is_neither_gone_nor_changed(faulty, status, error):
    faulty.script = [status, status, 200, 200]  # obstore's, botocore's, the listing, and then the object
    assert open_store("s3://bucket").get("k", "e", 7) == b"content"
    assert len(faulty.requests) == 4
    faulty.script = [status, 200]
    with pytest.raises(error):
        open_store("s3://bucket").get_range("k", 0, 7, "another")


DENIED = (403, "AccessDenied")


def test_one_refused_object_is_refused_after_three_tries_and_a_listing(faulty):
    store = open_store("s3://bucket")
    faulty.script = [DENIED] * 3 + [200, DENIED]  # obstore's, botocore's, botocore's, the listing, botocore's
    with pytest.raises(Refused, match="AccessDenied") as refused:
        store.get("k", "e", 7)
    assert not isinstance(refused.value, Archived) and len(faulty.requests) == 5
    faulty.script = [DENIED] * 3 + [200, 200]
    assert store.get("k", "e", 7) == b"content", "a refusal that passes"


@pytest.mark.parametrize("code", ["AccessDenied", "", "KMS.DisabledException", "InvalidRequest"])
def test_what_may_be_about_one_object(faulty, code):
    fault = (400 if code[:1] in ("K", "I") else 403, code)
    faulty.script = [fault, fault, 200, fault]
    with pytest.raises(Refused):
        open_store("s3://bucket").get_tail("k", 7, "e")


@pytest.mark.parametrize("listing", [DENIED, (403, "InvalidAccessKeyId"), (404, "NoSuchBucket")])
def test_refusals_of_the_listing_too_are_not_about_the_object(faulty, listing):
    faulty.script = [DENIED, DENIED, listing, DENIED]
    with pytest.raises(Denied) as denied:
        open_store("s3://bucket").get_range("k", 0, 7, "e")
    assert not isinstance(denied.value, Refused)


@pytest.mark.parametrize(
    "fault",
    [(403, "InvalidAccessKeyId"), (403, "SignatureDoesNotMatch"), (403, "AccountProblem"), (404, "NoSuchBucket"), (401, "")],
)
def test_refusals_of_the_account_are_not_about_the_object(faulty, fault):
    faulty.script = [fault] * 2  # after 404 the listing is asked
    with pytest.raises(Denied) as denied:
        open_store("s3://bucket").get_range("k", 0, 7, "e")
    assert not isinstance(denied.value, Refused) and len(faulty.requests) <= 2


def test_a_refused_object_that_is_not_listed_as_it_was_is_only_denied(faulty):
    faulty.script = [DENIED, DENIED, 200, DENIED]
    with pytest.raises(Denied, match="no longer listed") as denied:
        open_store("s3://bucket").get_range("k", 0, 7, "another")
    assert not isinstance(denied.value, Refused)


def test_an_archived_object_is_known_at_once(faulty):
    faulty.script = [(403, "InvalidObjectState")]
    with pytest.raises(Archived):
        open_store("s3://bucket").get_range("k", 0, 7, "e")
    assert len(faulty.requests) == 1


def test_a_listing_is_never_missing(faulty):
    faulty.script = [(404, "NoSuchKey")]
    assert [entry.key for entry in open_store("s3://bucket").list()] == ["k"]
    faulty.script = [(404, "NoSuchBucket")]
    with pytest.raises(Denied, match="no bucket"):
        list(open_store("s3://bucket").list())


def test_a_lost_answer_to_put_new_counts_as_exists_already(faulty):
    faulty.script = ["lost"]
    assert open_store("s3://bucket").put_new("k", b"body") is False
    assert [headers["If-None-Match"] for _, _, headers in faulty.requests] == ["*", "*"]


def test_whole_objects_are_one_request(faulty):
    store = open_store("s3://bucket")
    for key in ("k", "a b%c/d+e.jpg", "a//b"):
        faulty.requests.clear()
        assert store.get(key, size=7) == b"content"
        assert [method for method, _, _ in faulty.requests] == ["GET"]


def test_a_shortcut_that_never_works_is_given_up(faulty):
    store = open_store("s3://bucket")
    faulty.script = [(301, "PermanentRedirect"), 200, 200]
    assert store.get("k", size=7) == store.get("k", size=7) == b"content"
    assert len(faulty.requests) == 3
    faulty.requests.clear()
    assert store.get("k", size=7) == b"content" and len(faulty.requests) == 1 and store._direct is None


def test_a_forked_process_reads_without_the_threads_of_its_parent(faulty):
    store = open_store("s3://bucket")
    assert store.get("k", size=7) == b"content"
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        os._exit(0 if store.get("k", size=7) == b"content" else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_a_gateway_that_ignores_conditions_is_found_out(faulty):
    with pytest.raises(StorageError, match="If-None-Match"):
        storage.check_conditional_put(open_store("s3://bucket"), "probe")


def test_waits_grow_and_vary(monkeypatch):
    waits = []
    set_time(monkeypatch, objects, sleep=waits.append)

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


def test_the_stamp_is_storage_class_and_modification_time(faulty, monkeypatch):
    store, day = open_store("s3://bucket"), datetime(2026, 1, 1, tzinfo=UTC)
    said = [{"StorageClass": "STANDARD", "LastModified": day}, {"StorageClass": "GLACIER", "LastModified": day}, {}]
    contents = [{"Key": str(number), "Size": 1, "ETag": '"e"', **entry} for number, entry in enumerate(said)]
    monkeypatch.setattr(store, "_call", lambda key, call: {"Contents": contents, "IsTruncated": False})
    assert [entry.stamp for entry in store.list()] == [":1767225600", "GLACIER:1767225600", ":"]
