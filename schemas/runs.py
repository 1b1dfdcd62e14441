"""The `runs` table: one row per scoring run, written last."""

import pyarrow as pa

from schemas.columns import CALIBRATION_DIGEST, MODEL, MODEL_DIGEST
from schemas.field import field

VERSION = 2
PARTITION_BY = ["model"]
SORT_BY = "run_id"
ROW_GROUP_ROWS = 122_880

SCHEMA = pa.schema(
    [
        field("run_id", pa.string(), "the scoring run: the model and the number of the slice", nullable=False),
        field("slice", pa.int32(), "number of the slice among the entries of the model's ledger", nullable=False),
        field("publication", pa.int64(), "number of the publication that brought it into the tables", nullable=False),
        MODEL,
        MODEL_DIGEST,
        CALIBRATION_DIGEST,
        field("config", pa.string(), "resolved scoring config of the newest model that scored in it, JSON", nullable=False),
        field("artifact", pa.string(), "config of that model's artifact, JSON; null when not known"),
        field("code_version", pa.string(), "version of flowscore that planned the slice", nullable=False),
        field("planned", pa.int64(), "images planned; equals scored + quarantined", "images", nullable=False),
        field(
            "ignored", pa.int64(), "listed objects and members of shards that are not images or were not asked for", "objects"
        ),
        field("scored", pa.int64(), "images with a score", "images", nullable=False),
        field("quarantined", pa.int64(), "images with an error", "images", nullable=False),
        field("attempts", pa.int32(), "drivers that have worked on the slice"),
        field(
            "stage_seconds",
            pa.string(),
            "JSON object: seconds of work by stage (read, decode, copy, score, commit), added up over all workers, and seconds "
            "that devices were idle, by cause (load: the model; wait: for images; host: packing)",
            "s",
        ),
        field("bytes_read", pa.int64(), "encoded bytes fetched", "bytes"),
        field("device_seconds", pa.float64(), "seconds that devices computed, added up over all of them", "s"),
        field(
            "scored_on",
            pa.string(),
            "JSON array, one object for each kind of device that scored: device, hardware, images, and one_by_one: whether a "
            "GPU started the model's kernels one by one, because it does not run there as a CUDA graph: slower, same scores",
        ),
        field("cost", pa.float64(), "cost of the slice; always null so far, since `score` knows no prices", "USD"),
        field("started_at", pa.timestamp("us", "UTC"), "when the first driver began to score the slice; null when none did"),
        field("finished_at", pa.timestamp("us", "UTC"), "when this row was written", nullable=False),
        field(
            "spent_s",
            pa.float64(),
            "wall time that all drivers spent on scoring the slice, added up, without publishing; up to 10 s of each driver "
            "that was killed are missing",
            "s",
        ),
    ]
)
