"""DuckDB reads tables on S3 through our store: what passes is tried again, what lasts is named."""

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fault_proxy import Fault

from pipeline.storage.objects import Denied, StorageError, Unreachable
from pipeline.storage.store import open_store
from pipeline.tables import sql

ROWS = 200_000


@pytest.fixture
def harmed(behind_proxy):
    """A proxy, the URI of a place behind it, and a query over a file there, whose name has to be quoted."""
    proxy, uri = behind_proxy
    sink = io.BytesIO()
    pq.write_table(pa.table({"a": range(ROWS)}), sink)
    open_store(uri).put("scores/day=2026%2F1 'a'/f.parquet", sink.getvalue())
    proxy.arm()
    files = sql.file_list([f"{uri}/scores/day=2026%2F1 'a'/f.parquet"])
    return proxy, uri, f"select count(*), sum(a) from read_parquet({files})"


def ask(uri, query, scratch):
    with sql.connected(uri, scratch) as connection:
        return connection.sql(query).fetchall()


@pytest.mark.parametrize("kind", ["short", "404", "500", "429", "drop", "close_in_body"])
def test_a_fault_at_any_request_changes_nothing(harmed, tmp_path, kind):
    proxy, uri, query = harmed
    expected = [(ROWS, ROWS * (ROWS - 1) // 2)]
    assert ask(uri, query, tmp_path) == expected
    requests = len(proxy.passed)
    assert [request.listing for request in proxy.passed].count(True) == 1
    for at in range(requests):
        proxy.arm(Fault(kind, at))
        assert ask(uri, query, tmp_path) == expected
        assert proxy.struck == 1


@pytest.mark.parametrize(("kind", "error"), [("403", Denied), ("500", Unreachable), ("drop", Unreachable)])
@pytest.mark.parametrize("at", [0, 1])
def test_lasting_faults_are_the_storages(harmed, tmp_path, kind, error, at):
    proxy, uri, query = harmed
    proxy.arm(Fault(kind, at, times=10_000))
    with pytest.raises(error, match="f.parquet"):
        ask(uri, query, tmp_path)


def test_a_mistake_in_a_query_is_no_fault_of_the_storage(harmed, tmp_path):
    _, uri, _ = harmed
    for query in ("select nonsense", f"select * from read_parquet(['{uri}/nothing.parquet'])"):
        with pytest.raises(Exception) as caught:
            ask(uri, query, tmp_path)
        assert not isinstance(caught.value, StorageError)
