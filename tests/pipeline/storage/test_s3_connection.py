"""How botocore's client is set up."""

from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from botocore.awsrequest import AWSResponse
from botocore.utils import parse_timestamp

from pipeline.storage.s3_connection import current_connection, moment

LISTING = (
    b"<ListBucketResult><Contents><Key>a</Key><LastModified>2026-05-04T03:04:05.000Z</LastModified><Size>1</Size></Contents>"
    b"</ListBucketResult>"
)


@pytest.mark.parametrize(
    "text",
    [
        *("2026-05-04T03:04:05.678Z", "2026-05-04T03:04:05Z", "2026-05-04T03:04:05+02:00", "2026-05-04T03:04Z"),
        *("Mon, 04 May 2026 03:04:05 GMT", "20260504T030405Z", 1777863845, "1777863845", "1777863845.5"),
    ],
)
def test_a_moment_is_what_botocore_makes_of_it(text):
    assert moment(text) == parse_timestamp(text)


@pytest.mark.parametrize("text", ["soonZ", "2026-13-04T03:04:05Z"])
def test_what_is_no_moment_is_an_error_of_botocore(text):
    with pytest.raises(ValueError):
        moment(text)


def test_listings_do_without_the_slow_parser(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    monkeypatch.setattr("dateutil.parser.parse", lambda *_, **__: pytest.fail("a moment was read by dateutil"))
    client = current_connection().client
    client.meta.events.register(
        "before-send.s3",
        lambda request, **_: AWSResponse(request.url, 200, {}, SimpleNamespace(stream=lambda **_: iter([LISTING]))),
    )
    (entry,) = client.list_objects_v2(Bucket="b")["Contents"]
    assert entry["LastModified"] == datetime(2026, 5, 4, 3, 4, 5, tzinfo=UTC)
