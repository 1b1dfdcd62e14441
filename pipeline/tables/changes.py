"""Changes a table by one commit of explicit removes and adds on exactly the version that was read."""

import time

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.transaction import AddAction, CommitProperties, RemoveAction, Transaction

from pipeline.state.publications import Change, DataFile
from pipeline.tables.delta import table_files
from pipeline.tables.faults import named, retried

TRANSACTIONS, REMOVALS = "flowscore", "flowscore.removals"
"""Application ids of the tables' transactions; their version is the number of the publication."""


@retried
def committed_number(table: DeltaTable, application: str) -> int:
    """The highest publication that the table has, of those that were committed under this application id; 0 without any."""
    return table.transaction_version(application) or 0


def active_paths(table: DeltaTable | None) -> set[str]:
    """Paths of all files of the version that is loaded."""
    return set(table_files(table))


def schema_text(schema: pa.Schema) -> str:
    """How a change names the columns of its files."""
    return schema.serialize().to_pybytes().hex()


def schema_of(change: Change) -> pa.Schema | None:
    """The columns that the change's files need; None when it only removes files."""
    return pa.ipc.read_schema(pa.py_buffer(bytes.fromhex(change.schema))) if change.schema else None


def apply_change(table: DeltaTable, change: Change, application: str, publication: int) -> None:
    """Remove and add files in one commit, on exactly the version that `table` has loaded.

    Raises:
        CommitFailedError: another commit was first; load the table and check again.
        Denied, Unreachable: perhaps committed; load the table and check.
    """
    commit_files(table, change.add, change.remove, Transaction(application, publication, _now_ms()))


def commit_files(
    table: DeltaTable, add: tuple[DataFile, ...], remove: tuple[DataFile, ...], transaction: Transaction | None
) -> None:
    """See `apply_change`; without a transaction it is a commit that the protocol does not count."""
    now_ms = _now_ms()
    actions: list[AddAction | RemoveAction] = [
        RemoveAction(file.path, True, now_ms, size=file.size, partition_values=dict(file.partition)) for file in remove
    ]
    actions += [AddAction(file.path, file.size, file.partition, now_ms, True, file.stats) for file in add]
    with named():
        table.create_write_transaction(
            actions,
            mode="append",
            schema=table.schema(),
            partition_by=table.metadata().partition_columns,
            commit_properties=CommitProperties(
                max_commit_retries=0, app_transactions=[transaction] if transaction is not None else []
            ),
        )


def _now_ms() -> int:
    return int(time.time() * 1000)
