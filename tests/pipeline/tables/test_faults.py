"""Faults of storage under the Delta library, by a proxy in front of the S3 server."""

import pytest
from deltalake.exceptions import CommitFailedError
from fault_proxy import Fault

from pipeline.state.publications import Change, DataFile
from pipeline.storage.objects import Denied, Unreachable
from pipeline.storage.store import open_store
from pipeline.tables import delta as tables
from pipeline.tables.changes import TRANSACTIONS, apply_change, committed_number
from schemas import runs


@pytest.fixture
def harmed(behind_proxy):
    """A proxy, and the URI of an output behind it with a runs table without files."""
    proxy, output = behind_proxy
    tables.open_or_create(output, "runs", runs.SCHEMA)
    return proxy, output


@pytest.mark.parametrize("kind", ["404", "500", "429", "drop", "short", "close_in_body"])
@pytest.mark.parametrize("at", [0, 1, 2])
def test_reading_a_table_goes_on_after_a_fault(harmed, kind, at):
    proxy, output = harmed
    proxy.arm(Fault(kind, at))
    table = tables.open_table(output, "runs")
    assert table is not None and tables.table_files(table) == []
    assert proxy.struck == 1


@pytest.mark.parametrize(
    ("kind", "error"), [("403", Denied), ("404", Unreachable), ("500", Unreachable), ("drop", Unreachable)]
)
def test_lasting_faults_are_named(harmed, kind, error):
    proxy, output = harmed
    proxy.arm(Fault(kind, 0, times=10_000))
    with pytest.raises(error) as caught:
        tables.open_table(output, "runs")
    assert "\n" not in str(caught.value) and "\x1b" not in str(caught.value)


@pytest.mark.parametrize("kind", ["drop_answer", "500_after"])
def test_a_commit_whose_answer_is_lost_is_found_in_the_log(harmed, kind):
    proxy, output = harmed
    open_store(output).put("runs/model=m/a.parquet", b"rows")
    change = Change((DataFile("model=m/a.parquet", 4, {"model": "m"}, '{"numRecords": 1}'),))
    table = tables.open_table(output, "runs")
    proxy.arm(Fault(kind, 1))  # the commit: before it the log is listed
    with pytest.raises(CommitFailedError):
        apply_change(table, change, TRANSACTIONS, 7)
    assert [request.method for request in proxy.passed if request.fault] == ["PUT"]
    assert committed_number(tables.open_table(output, "runs"), TRANSACTIONS) == 7
