"""Changes a table by one commit of explicit removes and adds on exactly the version that was read."""

import time

from deltalake import DeltaTable
from deltalake.transaction import AddAction, CommitProperties, RemoveAction, Transaction

from pipeline.storage.objects import StorageError, listed
from pipeline.storage.store import Store
from pipeline.tables.delta import TABLES, DataFile, open_table
from pipeline.tables.faults import named, retried


@retried
def is_committed(table: DeltaTable | None, run_id: str, slice_number: int) -> bool:
    """Whether the slice (or a later one) of the run is in the table."""
    version = table.transaction_version(run_id) if table is not None else None
    return version is not None and version >= slice_number


def replace_files(
    name: str, table: DeltaTable, store: Store, run_id: str, slice_number: int, added: list[DataFile], removed: list[DataFile]
) -> None:
    """Remove `removed` from the table and add `added`, in one commit on exactly the version that `table` has loaded.

    Raises:
        CommitFailedError: another commit was first; load the table and check again.
        Denied, Unreachable: perhaps committed; load the table and check.
        StorageError: an added file is missing or has another size.
    """
    for file in added:
        key = f"{name}/{file.path}"
        found = listed(store, key)
        if found is None or found.size != file.size:
            raise StorageError(f"{key} below {store.uri} must have {file.size} bytes; got {found}. Repeat the command")
    now_ms = int(time.time() * 1000)
    actions: list[AddAction | RemoveAction] = [
        RemoveAction(file.path, True, now_ms, size=file.size, partition_values=dict(file.partition)) for file in removed
    ]
    actions += [AddAction(file.path, file.size, file.partition, now_ms, True, file.stats) for file in added]
    with named():
        table.create_write_transaction(
            actions,
            mode="append",
            schema=table.schema(),
            partition_by=table.metadata().partition_columns,
            commit_properties=CommitProperties(
                max_commit_retries=0,
                app_transactions=[Transaction(run_id, slice_number, now_ms)],
                custom_metadata={"flowscore.run_id": run_id, "flowscore.slice": str(slice_number)},
            ),
        )


def clean(output_uri: str) -> dict[str, int]:
    """Delete the files that no version of the last `RETENTION_DAYS` days needs; returns how many by table."""
    deleted = {}
    for name in TABLES:
        table = open_table(output_uri, name)
        if table is not None:
            table.create_checkpoint()
            table.cleanup_metadata()
            deleted[name] = len(table.vacuum(dry_run=False, full=True))
    return deleted
