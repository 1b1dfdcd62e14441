"""What `flowscore doctor` says of the Delta tables under an output."""

from collections.abc import Iterator

from jobs.examined.finding import Finding
from pipeline.storage.objects import StorageError

MANY_SPARE = 1000
"""Files of a table above which a query takes longer than a second."""


def tables(uri: str) -> Iterator[Finding]:
    """Checks protocol and retention of the Delta tables under the output."""
    from pipeline.tables.compaction import spare
    from pipeline.tables.delta import RETENTION, RETENTION_DAYS, TABLES, open_table
    from pipeline.tables.files import data_files

    wanted = ", ".join(f"{key} '{interval}'" for key, interval in RETENTION.items())
    for name in TABLES:
        try:
            table = open_table(uri, name)
        except StorageError as error:
            yield Finding("fail", "tables", f"{name}: {error}", "Check the output's address and credentials.")
            return
        if table is None:
            continue
        protocol, properties = table.protocol(), table.metadata().configuration
        files = data_files(table)
        text = f"{name}: version {table.version()}, reader {protocol.min_reader_version}, {len(files):,} files"
        kept = {key: properties.get(key) for key in RETENTION}
        if protocol.min_reader_version > 1:
            fix = "Some readers cannot open it. Another program raised its protocol; the table's history names it."
            yield Finding("fail", "tables", text, fix)
        elif kept != RETENTION:
            fix = f"Rollback needs {RETENTION_DAYS} days: set the properties back to {wanted}."
            yield Finding("warn", "tables", f"{text}, {', '.join(f'{key} {kept[key]!r}' for key in kept)}", fix)
        elif (left := spare(files)) > MANY_SPARE:
            fix = f"`flowscore finalize --output {uri} --compact` merges small ones, and queries get faster."
            yield Finding("warn", "tables", f"{text}, {left:,} more than are needed", fix)
        else:
            yield Finding("ok", "tables", f"{text}, rollback window {RETENTION_DAYS} days")
