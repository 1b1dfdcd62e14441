"""A bucket, or a prefix of one, on S3 or any endpoint that speaks its protocol.

botocore is the client: it takes every key that S3 knows, and credentials, profile, region and endpoint from where
every AWS tool takes them. obstore needs a quarter of the CPU time a request, but its listing fails as a whole on one
key such as `a//b.jpg`, and it cannot name keys with control characters.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import botocore.config
import botocore.session
from botocore import UNSIGNED
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

from pipeline.objects import (
    ATTEMPTS,
    RANGE_BYTES,
    BadUri,
    Changed,
    Denied,
    Gone,
    Object,
    StorageError,
    Unreachable,
    retry,
)

Result = TypeVar("Result")

CONNECTIONS = 32
CONNECT_TIMEOUT_S = 5
READ_TIMEOUT_S = 60
NO_ANSWER = (
    NoConnectionError,
    HTTPClientError,
    IncompleteReadError,
    ResponseParserError,
    CredentialRetrievalError,
    MetadataRetrievalError,
)
PATH_STYLE = botocore.config.Config(s3={"addressing_style": "path"})
EXPIRED = {"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"}
TRANSIENT = {"RequestTimeout", "SlowDown", "Throttling", "ThrottlingException", "OperationAborted", "InternalError"}


class S3Store:
    """`s3://bucket/prefix`; keys are relative to the prefix and taken as they are: nothing in them is normalised."""

    def __init__(self, bucket: str, prefix: str):
        self.bucket = bucket
        self.uri = f"s3://{bucket}/{prefix}" if prefix else f"s3://{bucket}"
        self._base = f"{prefix}/" if prefix else ""
        self._client, self._attempts = connect()

    def list(self, prefix: str = "", start_after: str | None = None) -> Iterator[Object]:
        """Objects whose key starts with `prefix` and is greater than `start_after`, in UTF-8 byte order of the key."""
        last = start_after or ""
        request = {"Bucket": self.bucket, "Prefix": self._base + prefix}
        if last:
            request["StartAfter"] = self._base + last
        while True:
            page = self._call(prefix, lambda: self._client.list_objects_v2(**request))
            for entry in page.get("Contents", []):
                key = entry["Key"][len(self._base) :]
                if key and key <= last:
                    raise StorageError(f"{self.uri} lists {key!r} after {last!r}: not in the order of UTF-8 bytes")
                if key:  # the prefix itself may be an object: a directory marker
                    yield Object(key, entry["Size"], entry["ETag"].strip('"'))
                    last = key
            if not page["IsTruncated"]:
                return
            request["ContinuationToken"] = page["NextContinuationToken"]

    def get(self, key: str, etag: str | None = None) -> bytes:
        """The whole object in one request. Raises Gone, Changed (`etag` given and different), Denied, Unreachable."""
        return self._request(key, etag)[0]

    def get_range(self, key: str, start: int, length: int, etag: str | None = None) -> bytes:
        """`length` bytes from `start`, fewer at the end of the object. Errors as for `get`."""
        return self._request(key, etag, Range=f"bytes={start}-{start + length - 1}")[0] if length > 0 else b""

    def get_tail(self, key: str, length: int, etag: str | None = None) -> tuple[bytes, int]:
        """The last `length` bytes (all of a smaller object) and the object's size. Errors as for `get`."""
        body, size = self._request(key, etag, Range=f"bytes=-{length}")
        return body, size

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
        """Write the object, replacing one of that key."""
        self._call(key, lambda: self._client.put_object(Bucket=self.bucket, Key=self._base + key, Body=body))

    def put_new(self, key: str, body: bytes) -> bool:
        """Write the object unless the key exists; False when it did, also when it is ours and the answer was lost."""
        name = {"Bucket": self.bucket, "Key": self._base + key}
        return self._create(key, lambda: self._client.put_object(**name, Body=body, IfNoneMatch="*"))

    def put_new_file(self, key: str, path: str | os.PathLike[str]) -> bool:
        """`put_new` with the content of a local file of at most 5 GB.

        One request, whatever the size: Ceph 16.2 ignores the condition when a multipart upload completes.
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

    def __reduce__(self) -> tuple[Any, ...]:
        return S3Store, (self.bucket, self._base[:-1])  # connections are opened anew in the process that unpickles

    def _request(self, key: str, etag: str | None, **options: str) -> tuple[bytes, int]:
        """Bytes of one GET, and the size of the whole object."""
        if etag is not None:
            options["IfMatch"] = f'"{etag}"'

        def call() -> tuple[bytes, int]:
            try:
                answer = self._client.get_object(Bucket=self.bucket, Key=self._base + key, **options)
            except ClientError as error:
                if _status(error) == 416:  # the range starts at or beyond the end
                    return b"", 0
                raise
            with answer["Body"] as body:
                content = body.read()
            size = answer.get("ContentRange", "").rpartition("/")[2]
            return content, int(size) if size.isdigit() else len(content)

        return self._call(key, call)

    def _create(self, key: str, call: Callable[[], Any]) -> bool:
        try:
            self._call(key, call)
        except Changed:
            return False
        return True

    def _call(self, key: str, call: Callable[[], Result]) -> Result:
        def once() -> Result:
            what = f"{self.uri}/{key}"
            try:
                return call()
            except ClientError as error:
                raise self._named(what, error) from error
            except NO_ANSWER as error:
                raise Unreachable(f"{what}: {error}") from error
            except BotoCoreError as error:  # no or unusable credentials
                raise Denied(f"{what}: {error}") from error

        return retry(once, self._attempts)

    def _named(self, what: str, error: ClientError) -> StorageError:
        code, status = error.response.get("Error", {}).get("Code", ""), _status(error)
        what = f"{what}: {code} ({status})"
        if code in EXPIRED:
            self._client, _ = connect()  # credentials are read again: a file or a service may hold fresh ones
            return Unreachable(what)
        if code in TRANSIENT or status in (408, 409, 429) or status >= 500:
            return Unreachable(what)
        if code == "NoSuchBucket":
            return Denied(f"{what}: there is no bucket {self.bucket!r} at {self._client.meta.endpoint_url}")
        if status == 412:
            return Changed(what)
        return Gone(what) if status == 404 else Denied(what)


def connect() -> tuple[Any, int]:
    """An S3 client by the usual AWS environment, and how often a request is tried (AWS_MAX_ATTEMPTS, else 7).

    Checksums that older gateways refuse are sent only where S3 requires them. Endpoints that are not AWS get the bucket
    in the path. `AWS_SKIP_SIGNATURE=true` reads public buckets without credentials.
    """
    try:
        session = botocore.session.get_session()
        client = session.create_client("s3", config=_config())
        if is_custom(client) and "addressing_style" not in session.get_scoped_config().get("s3", {}):
            client = session.create_client("s3", config=_config().merge(PATH_STYLE))
        return client, int(session.get_config_variable("max_attempts") or ATTEMPTS)
    except (BotoCoreError, ValueError) as error:
        raise BadUri(f"AWS_ENDPOINT_URL, AWS_PROFILE, AWS_REGION must describe an S3 endpoint: {error}") from error


def is_custom(client: Any) -> bool:
    """Whether the client's endpoint is not Amazon's."""
    host = client.meta.endpoint_url.split("//", 1)[1].split("/")[0].split(":")[0]
    return not host.endswith((".amazonaws.com", ".amazonaws.com.cn"))


def _config() -> botocore.config.Config:
    unsigned = os.environ.get("AWS_SKIP_SIGNATURE", "").lower() in ("1", "true")
    return botocore.config.Config(
        max_pool_connections=CONNECTIONS,
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=READ_TIMEOUT_S,
        retries={"total_max_attempts": 1},  # `retry` does it, for bodies that break off too
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        signature_version=UNSIGNED if unsigned else None,
    )


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
