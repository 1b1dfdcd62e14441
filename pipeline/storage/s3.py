"""A bucket, or a prefix of one, on S3 or any endpoint that speaks its protocol.

botocore is the client: it takes every key that S3 allows, and it finds credentials, profile, region and endpoint where
every AWS tool does. obstore is quicker, but one key such as `a//b.jpg` makes its whole listing fail, and it
cannot name keys with control characters; so it only fetches whole objects (pipeline/storage/direct_get.py).
"""

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    HTTPClientError,
    IncompleteReadError,
    MetadataRetrievalError,
)
from botocore.exceptions import ConnectionError as NoConnectionError
from botocore.parsers import ResponseParserError

from pipeline.storage.direct_get import DirectStore, direct_get, open_direct
from pipeline.storage.objects import (
    RANGE_BYTES,
    SKEWED,
    WRONG_CLOCK,
    Archived,
    Changed,
    Denied,
    Gone,
    Object,
    Page,
    Refused,
    StorageError,
    Unreachable,
    listed,
    retry,
    unless_refused,
)
from pipeline.storage.s3_connection import current_connection

Result = TypeVar("Result")

NO_ANSWER = (
    NoConnectionError,
    HTTPClientError,
    IncompleteReadError,
    ResponseParserError,
    CredentialRetrievalError,
    MetadataRetrievalError,
)
EXPIRED = {"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"}
ARCHIVED = "InvalidObjectState"
REFUSED = {  # codes that may be about one object alone; an answer without a code counts as "403"
    *("AccessDenied", "Forbidden", "AccessForbidden", "403", "InvalidRequest"),  # the last one: encrypted with the client's key
    *("KMS.DisabledException", "KMS.NotFoundException", "KMS.KMSInvalidStateException", "KMS.InvalidKeyUsageException"),
}
TRANSIENT = {"RequestTimeout", "SlowDown", "Throttling", "ThrottlingException", "OperationAborted", "InternalError"}


class S3Store:
    """`s3://bucket/prefix`; keys are relative to the prefix and are not normalised."""

    _direct: DirectStore | None
    _direct_works: bool

    def __init__(self, bucket: str, prefix: str):
        self.bucket = bucket
        self.uri = f"s3://{bucket}/{prefix}" if prefix else f"s3://{bucket}"
        self._base = f"{prefix}/" if prefix else ""
        self._open()

    def list(self, prefix: str = "", start_after: str | None = None) -> Iterator[Object]:
        """Objects whose key starts with `prefix` and is greater than `start_after`, in UTF-8 byte order of the key."""
        last, token = start_after or "", None
        while True:
            page = self.page(prefix, token, start_after=start_after)
            for entry in page.objects:
                if entry.key <= last:
                    raise StorageError(f"{self.uri} lists {entry.key!r} after {last!r}: not in the order of UTF-8 bytes")
                yield entry
                last = entry.key
            if page.token is None:
                return
            token = page.token

    def page(self, prefix: str, token: str | None = None, by_folder: bool = False, start_after: str | None = None) -> Page:
        """One page of the keys that begin with `prefix`; with `by_folder` those with a further slash count as its folder."""
        request = {"Bucket": self.bucket, "Prefix": self._base + prefix}
        request |= {"StartAfter": self._base + start_after} if start_after else {}
        request |= {"ContinuationToken": token} if token else {}
        request |= {"Delimiter": "/"} if by_folder else {}
        found = self._call(prefix, lambda: self._page(request))
        objects = [
            Object(entry["Key"][len(self._base) :], entry["Size"], entry["ETag"].strip('"'), _stamp(entry))
            for entry in found.get("Contents", [])
            if entry["Key"] != self._base  # a directory marker: the prefix itself is an object
        ]
        folders = [folder["Prefix"][len(self._base) :] for folder in found.get("CommonPrefixes", [])]
        return Page(objects, folders, found["NextContinuationToken"] if found["IsTruncated"] else None)

    def links_left_out(self) -> int:
        """None: a bucket has no links."""
        return 0

    def get(self, key: str, etag: str | None = None, size: int | None = None) -> bytes:
        """The whole object in one request; `size` is what the listing said. Raises Gone, Changed (`etag` given and
        different), Denied, Unreachable.

        The length of an answer is not trusted: it is compared with `size`, or with the whole size that the answer to a
        range states.
        """
        if size is None:
            return self._request(key, etag, start=0)[0]
        body = direct_get(self._direct, self._base + key, etag) if self._direct else None
        if body is None or len(body) != size:
            body = self._request(key, etag, size=size)[0]
            if not self._direct_works:  # only botocore knows how to reach this endpoint or network
                self._direct = None
        else:
            self._direct_works = True
        return body

    def get_range(self, key: str, start: int, length: int, etag: str | None = None) -> bytes:
        """`length` bytes from `start`, fewer at the end of the object. Errors as for `get`."""
        return self._request(key, etag, start, start + length)[0] if length > 0 else b""

    def get_tail(self, key: str, length: int, etag: str | None = None) -> tuple[bytes, int]:
        """The last `length` bytes (all of a smaller object) and the object's size. Errors as for `get`."""
        return self._request(key, etag, start=-length)

    def open_stream(self, key: str, start: int = 0, etag: str | None = None) -> Iterator[bytes]:
        """The object from byte `start` on, in pieces of at most 16 MiB, each a request of its own (a fault in one is
        tried again at exactly its offset). Errors as for `get`, at any piece.
        """
        while piece := self.get_range(key, start, RANGE_BYTES, etag):
            yield piece
            if len(piece) < RANGE_BYTES:
                return
            start += len(piece)

    def put(self, key: str, body: bytes) -> None:
        """Write the object; replaces one with that key."""
        self._call(key, lambda: self._client.put_object(Bucket=self.bucket, Key=self._base + key, Body=body))

    def put_new(self, key: str, body: bytes) -> bool:
        """Write the object unless the key exists; False when it did, even if we wrote it and the answer was lost."""
        name = {"Bucket": self.bucket, "Key": self._base + key}
        return self._create(key, lambda: self._client.put_object(**name, Body=body, IfNoneMatch="*"))

    def put_new_file(self, key: str, path: str | os.PathLike[str]) -> bool:
        """`put_new` with the content of a local file of at most 5 GB.

        It is one request at any size: Ceph 16.2 ignores the condition when a multipart upload completes.
        """
        name = {"Bucket": self.bucket, "Key": self._base + key}

        def call() -> None:
            with open(path, "rb") as file:
                self._client.put_object(**name, Body=file, IfNoneMatch="*")

        return self._create(key, call)

    def delete(self, key: str) -> None:
        """Remove the object; no error when it does not exist."""
        with contextlib.suppress(Gone):
            self._call(key, lambda: self._client.delete_object(Bucket=self.bucket, Key=self._base + key))

    def delete_unfinished(self) -> int:
        """Always 0: a PUT leaves the whole object or nothing."""
        return 0

    def __reduce__(self) -> tuple[Any, ...]:
        return S3Store, (self.bucket, self._base[:-1])  # connections are opened anew in the process that unpickles

    def _open(self) -> None:
        connection = current_connection()
        self._client, self._attempts = connection.client, connection.attempts
        credentials, unsigned = connection.credentials, connection.unsigned
        self._direct = None
        if credentials or unsigned:
            self._direct = open_direct(self.bucket, None if unsigned else credentials, connection.endpoint, connection.region)
        self._direct_works = False

    def _request(
        self, key: str, etag: str | None, start: int | None = None, end: int | None = None, size: int = 0
    ) -> tuple[bytes, int]:
        """Bytes of one GET, and the size of the whole object: at most the bytes from `start` (negative: from the end) to
        `end`, or the whole object, which has `size` bytes."""
        options = {} if etag is None else {"IfMatch": f'"{etag}"'}
        if start is not None:
            options["Range"] = f"bytes={start}" if start < 0 else f"bytes={start}-{'' if end is None else end - 1}"

        def call() -> tuple[bytes, int]:
            try:
                answer = self._client.get_object(Bucket=self.bucket, Key=self._base + key, **options)
            except ClientError as error:
                if _status(error) == 416:  # the range starts at or beyond the end
                    return b"", 0
                refused = _status(error) in (404, 412) and etag is not None
                if refused and (found := listed(self, key)) is not None and found.etag == etag:
                    raise Unreachable(f"{self.uri}/{key}: {_status(error)}, but it is listed as it was") from error
                if (refusal := self._refusal(key, error)) is not None:
                    raise refusal from error
                raise
            with contextlib.closing(answer["Body"]) as body:
                content = body.read()  # raises when bytes are missing
            stated = answer.get("ContentRange", "")
            if start is None:
                first, last, whole = 0, size, size
            elif (start, end, stated) == (0, None, ""):  # a server without ranges may send the whole object
                first, last, whole = 0, len(content), len(content)
            else:
                first, last, whole = _content_range(stated)
            if len(content) != last - first:
                what = f"{len(content)} of {last - first} bytes came, though the answer said that these were all"
                raise Unreachable(f"{self.uri}/{key}: {what}")
            return content, whole

        return unless_refused(lambda: self._call(key, call), self, key, etag)

    def _refusal(self, key: str, error: ClientError) -> Refused | None:
        """The refusal of this object, if the answer to a read says one."""
        status = _status(error)
        code = error.response.get("Error", {}).get("Code") or str(status)
        if code == ARCHIVED or code in REFUSED and status in (400, 403):
            return (Archived if code == ARCHIVED else Refused)(f"{self.uri}/{key}: {code} ({status})")
        return None

    def _create(self, key: str, call: Callable[[], Any]) -> bool:
        try:
            self._call(key, call)
        except Changed:
            return False
        return True

    def _page(self, request: dict[str, str]) -> dict[str, Any]:
        try:
            return self._client.list_objects_v2(**request)
        except ClientError as error:  # a listing always exists, even an empty one
            if _status(error) == 404 and error.response["Error"].get("Code") != "NoSuchBucket":
                raise Unreachable(f"{self.uri}/{request['Prefix']}: the listing was answered with 404") from error
            raise

    def _call(self, key: str, call: Callable[[], Result]) -> Result:
        def once() -> Result:
            what = f"{self.uri}/{key}"
            try:
                return call()
            except ClientError as error:
                raise self._named(what, error) from error
            except NO_ANSWER as error:
                raise Unreachable(f"{what}: {error}") from error
            except BotoCoreError as error:  # credentials are missing or unusable
                raise Denied(f"{what}: {error}") from error

        return retry(once, self._attempts)

    def _named(self, what: str, error: ClientError) -> StorageError:
        code, status = error.response.get("Error", {}).get("Code", ""), _status(error)
        what = f"{what}: {code} ({status})"
        if code in EXPIRED:
            self._open()  # credentials are read again: a file or a service may hold fresh ones
            return Unreachable(what)
        if code == SKEWED:
            return Unreachable(f"{what}: {WRONG_CLOCK}")
        if code in TRANSIENT or status in (408, 409, 429) or status >= 500:
            return Unreachable(what)
        if code == "NoSuchBucket":
            return Denied(f"{what}: there is no bucket {self.bucket!r} at {self._client.meta.endpoint_url}")
        if status == 412:
            return Changed(what)
        return Gone(what) if status == 404 else Denied(what)


def _content_range(header: str) -> tuple[int, int, int]:
    """First byte, end and whole size of `bytes 0-99/1000`. Raises Unreachable when the answer states no range."""
    found = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", header)
    if found is None:
        raise Unreachable(f"a request for a range was answered without one: Content-Range {header!r}")
    first, last, whole = map(int, found.groups())
    return first, last + 1, whole


def _stamp(entry: dict[str, Any]) -> str:
    """`Object.stamp` of an entry of a listing; gateways may leave out either half."""
    kind, modified = entry.get("StorageClass", ""), entry.get("LastModified")
    return f"{'' if kind == 'STANDARD' else kind}:{'' if modified is None else int(modified.timestamp())}"


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
