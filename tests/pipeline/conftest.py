import pytest
from conftest import new_bucket
from fault_proxy import FaultProxy
from own_time import set_time

from pipeline.storage import objects


@pytest.fixture
def behind_proxy(s3, monkeypatch):
    """A proxy that can harm requests, and the URI of an empty place that the environment leads to through it; nobody waits
    before a request is tried again."""
    with FaultProxy(s3) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        set_time(monkeypatch, objects, sleep=lambda seconds: None)
        yield proxy, f"{new_bucket(s3)}/out"
