"""The output of a history on an S3 server, as its checks see it: without the proxy."""

from datetime import timedelta

import botocore.session
from moved_clock import MovedClock
from places import Known


class Bucket:
    """A folder of a bucket."""

    def __init__(self, uri: str, server: str, clock: MovedClock) -> None:
        self.uri, self.known = uri, Known()
        self._bucket, _, prefix = uri.removeprefix("s3://").partition("/")
        self._prefix = f"{prefix}/"
        self._client = botocore.session.get_session().create_client("s3", endpoint_url=server)
        self._clock = clock

    def sizes(self) -> dict[str, int]:
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._prefix)
        return {entry["Key"][len(self._prefix) :]: entry["Size"] for page in pages for entry in page.get("Contents", [])}

    def read(self, key: str) -> bytes:
        return self._client.get_object(Bucket=self._bucket, Key=self._prefix + key)["Body"].read()

    def write(self, key: str, body: bytes) -> None:
        self._client.put_object(Bucket=self._bucket, Key=self._prefix + key, Body=body)

    def pass_days(self, days: int) -> None:
        self._clock.moved += timedelta(days=days)
