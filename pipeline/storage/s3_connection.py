"""How to reach S3: endpoint, region and credentials come from where every AWS tool finds them."""

import contextlib
import functools
import os
from datetime import datetime
from typing import Any, NamedTuple

import botocore
import botocore.config
import botocore.loaders
import botocore.session
from botocore.exceptions import BotoCoreError
from botocore.utils import parse_timestamp

from pipeline.storage.objects import ATTEMPTS, BadUri

CONNECTIONS = 32
CONNECT_TIMEOUT_S = 5
READ_TIMEOUT_S = 60
PATH_STYLE = botocore.config.Config(s3={"addressing_style": "path"})


class Connection(NamedTuple):
    """A botocore client and what other clients need to reach the same endpoint.

    credentials: botocore's; None without any.  unsigned: public buckets are read without credentials.
    endpoint: None for Amazon's own.  attempts: how often a request is tried.
    """

    client: Any
    credentials: Any
    unsigned: bool
    endpoint: str | None
    region: str
    attempts: int


def current_connection() -> Connection:
    """Connects by the usual AWS environment; AWS_MAX_ATTEMPTS tries, else 7; `AWS_SKIP_SIGNATURE=true` for public buckets.

    Checksums that older gateways refuse are sent only where S3 requires them. Endpoints other than Amazon's get the
    bucket in the path, unless the AWS configuration says otherwise. Raises BadUri.
    """
    unsigned = os.environ.get("AWS_SKIP_SIGNATURE", "").lower() in ("1", "true")
    config = botocore.config.Config(
        max_pool_connections=CONNECTIONS,
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=READ_TIMEOUT_S,
        retries={"total_max_attempts": 1},  # `retry` repeats requests, also when a body breaks off
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        signature_version=botocore.UNSIGNED if unsigned else None,
    )
    try:
        session = botocore.session.get_session()
        session.register_component("data_loader", _loader())
        session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=moment)
        client = session.create_client("s3", config=config)
        host = client.meta.endpoint_url.split("//", 1)[1].split("/")[0].split(":")[0]
        endpoint = None if host.endswith((".amazonaws.com", ".amazonaws.com.cn")) else client.meta.endpoint_url
        if endpoint and "addressing_style" not in session.get_scoped_config().get("s3", {}):
            client = session.create_client("s3", config=config.merge(PATH_STYLE))
        region = client.meta.region_name
        return Connection(
            client=client,
            credentials=session.get_credentials(),
            unsigned=unsigned,
            endpoint=endpoint,
            region=region if region and region != "aws-global" else "us-east-1",
            attempts=int(session.get_config_variable("max_attempts") or ATTEMPTS),
        )
    except (BotoCoreError, ValueError) as error:
        raise BadUri(f"AWS_ENDPOINT_URL, AWS_PROFILE, AWS_REGION must describe an S3 endpoint: {error}") from error


def moment(text: Any) -> datetime:
    """A time in an answer. botocore's own way, which reads more forms, takes three fifths of all that a listing takes."""
    if isinstance(text, str) and text.endswith("Z"):
        with contextlib.suppress(ValueError):
            return datetime.fromisoformat(text)
    return parse_timestamp(text)


@functools.cache
def _loader() -> botocore.loaders.Loader:
    """All sessions share it: a client that reads the description of S3 again costs five times as much."""
    return botocore.loaders.create_loader()
