"""The `scores` table: one row per model and image. An image is visible to readers when its row here is."""

import pyarrow as pa

from schemas.field import field

VERSION = 1
PARTITION_BY = ["model", "date"]
SORT_BY = "score desc, image_id"
ROW_GROUP_ROWS = 122_880

SCHEMA = pa.schema(
    [
        field("image_id", pa.string(), "stable identity of the image: 32 hex digits", nullable=False),
        field("uri", pa.string(), "canonical URI of the object that holds the image", nullable=False),
        field("member", pa.string(), "tar member name or Parquet row id within the object; null for a loose file"),
        field("content_hash", pa.string(), "first 128 bits of SHA-256 of the encoded bytes, 32 hex digits"),
        field("bytes", pa.int64(), "encoded size", "bytes"),
        field("width", pa.int32(), "width of the stored image after EXIF orientation", "px"),
        field("height", pa.int32(), "height of the stored image after EXIF orientation", "px"),
        field("captured_at", pa.timestamp("us", "UTC"), "EXIF capture time; null when unknown"),
        field("lot", pa.string(), "lot that the image belongs to; null when unknown"),
        field("date", pa.string(), "production day, or `none`", nullable=False),
        field("model", pa.string(), "stable name of the model, not a version", nullable=False),
        field("model_digest", pa.string(), "scoring digest of the model that gave the score", nullable=False),
        field("calibration_digest", pa.string(), "digest of the calibration behind the verdict; null when uncalibrated"),
        field("calibration_group", pa.string(), "group of good images that the score was compared with"),
        field("score", pa.float32(), "raw anomaly score, never clamped; higher is more anomalous", nullable=False),
        field("rank", pa.int64(), "calibration scores that are at least this score", "images"),
        field("n_calibration", pa.int64(), "good images in the calibration group", "images"),
        field("p_value", pa.float64(), "(1 + rank) / (n_calibration + 1)"),
        field("q_value", pa.float64(), "p-value adjusted within the lot by Benjamini-Hochberg"),
        field("verdict", pa.string(), "what the calibration says: ok, flagged or not_judged", nullable=False),
        field("regions", pa.int32(), "all connected areas of the map above threshold; null when not computed", "regions"),
        field("brightness", pa.float32(), "mean grey value of the resized image, 0 to 255"),
        field("contrast", pa.float32(), "standard deviation of the grey values of the resized image"),
        field("sharpness", pa.float32(), "variance of the 4-neighbour Laplacian of the resized grey image"),
        field("run_id", pa.string(), "scoring run that published the row", nullable=False),
        field("unit_id", pa.string(), "work unit in which the image was scored", nullable=False),
        field("device", pa.string(), "device and precision that scored, for example `cpu-bf16`"),
        field("scored_at", pa.timestamp("us", "UTC"), "when the row was finalized", nullable=False),
    ]
)


def key_field(name: str) -> pa.Field:
    """The nullable string column of one key of the path pattern, such as `line` or `product`."""
    return field(name, pa.string(), f"key column: the part of the path that the key pattern calls {{{name}}}")


def with_keys(key_columns: tuple[str, ...]) -> pa.Schema:
    """SCHEMA with the key columns at its end, in the order given."""
    return pa.schema([*SCHEMA, *(key_field(name) for name in key_columns)])
