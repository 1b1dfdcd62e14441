"""Prints docs/tables.md from the schemas: `make tables` writes it, a test fails when it is out of date."""

from pathlib import Path

import pyarrow as pa

from schemas import decisions, drift, errors, lots, maps, regions, runs, scores

PAGE = Path(__file__).with_name("tables.md")
INTRODUCTION = """# Tables

Written by `make tables` from the schemas; the same meanings and units stand in every file's column metadata.

Every table is a Delta table at `<output>/<table>`: Parquet files and a log. Read the table, never the folder, which
also holds replaced files. It is reader version 1, so no reader needs a feature: `flowscore query` is DuckDB over all of
them, and elsewhere

```python
from deltalake import DeltaTable

s3 = {"AWS_ALLOW_HTTP": "true"}  # for an AWS_ENDPOINT_URL of http://; region and keys come from the AWS_* variables
scores = DeltaTable("s3://plant/results/scores", storage_options=s3)
of_day = [("period", "=", "2024-06"), ("date", "=", "2024-06-03")]
night = scores.to_pandas(columns=["uri", "lot", "score"], filters=of_day)
```

`period` is the month of an ISO `date`, else `date` itself; it is a partition, so name it in every filter beside the `date`.

A publication changes the tables one after another. `flowscore query`, `flowscore report` and `flowscore.tables` open all of
them at the last seal, which is one snapshot. With another program:

- Open `scores` first. An image is there for readers when its row is in `scores`.
- Join `maps` and `regions` from `scores` by (`unit_id`, `image_id`); add `model` and `period`, which makes it fast. They also
  hold rows of images that were scored again since, until a compaction at least a day later removes them.
- Take `errors` without the images that are in `scores` for the same model: an image that moves from one table to the other
  is in both for a moment, and never in neither.

A key pattern such as `{line}/{date}/{lot}/{name}` adds its own columns to `scores` and `errors`, here `line`; they are
null in rows of models with another pattern. So `select lot, line, error, count(*) from errors group by all` says where
images fail. Rows of `errors` that an earlier flowscore wrote without them get them by `flowscore rekey` with the same
pattern. Columns are only ever added.

Until a model is calibrated, columns about its calibration are null, `verdict` is `not_judged` and `lots` has no row
([verdicts.md](verdicts.md)). A lot has a row for each revision; that with the highest `revision` of its `model`,
`model_digest`, `date` and `lot` counts.

A map's value at row r, column c is `map_offset + map_scale * map[r * map_width + c]`. Of a model with a region of interest
(`train --roi`), cells outside it hold the least value of those inside, and at most the map's threshold; `brightness`,
`contrast` and `sharpness` are of what is inside.
"""


def page() -> str:
    """The whole of docs/tables.md."""
    tables = (scores, maps, regions, errors, lots, drift, decisions, runs)
    return INTRODUCTION + "".join(map(_section, tables))


def _section(table) -> str:
    name = table.__name__.rpartition(".")[2]
    sentence = " ".join((table.__doc__ or "").split()).partition(": ")[2]
    partitions = ", ".join(f"`{column}`" for column in table.PARTITION_BY) or "nothing"
    rows = "".join(_row(column) for column in table.SCHEMA)
    head = f"\n## {name}\n\n{sentence[:1].upper()}{sentence[1:]} Partitioned by {partitions}; sorted by {table.SORT_BY}.\n"
    return f"{head}\n| column | type | unit | meaning |\n|---|---|---|---|\n{rows}"


def _row(column: pa.Field) -> str:
    metadata = {key.decode(): value.decode() for key, value in column.metadata.items()}
    meaning = metadata["meaning"].replace("|", "\\|")
    return f"| `{column.name}` | {column.type} | {metadata['unit']} | {meaning}{'' if column.nullable else '; never null'} |\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
