"""Columns that several files and tables share: each is defined once and has one meaning everywhere."""

import pyarrow as pa

from schemas.field import field

# These name the image of a row.
IMAGE_ID = field("image_id", pa.string(), "stable identity of the image: 32 hex digits", nullable=False)
URI = field("uri", pa.string(), "canonical URI of the object that holds the image", nullable=False)
MEMBER = field("member", pa.string(), "tar member name or Parquet row id within the object; null for a loose file")
LOT = field("lot", pa.string(), "lot that the image belongs to; null when unknown")
PIECE = field("piece", pa.string(), "piece that the image shows, by name within its lot; null when the image is a piece")
CONTENT_HASH = field(
    "content_hash", pa.string(), "first 128 bits of SHA-256 of the encoded bytes, 32 hex digits; null when unread"
)
BYTES = field("bytes", pa.int64(), "encoded size", "bytes")

# Decoding fills these.
CAPTURED = [
    field("width", pa.int32(), "width of the stored image after EXIF orientation", "px"),
    field("height", pa.int32(), "height of the stored image after EXIF orientation", "px"),
    field("captured_at", pa.timestamp("us", "UTC"), "EXIF capture time; null when unknown"),
]
LOOK = [
    field("brightness", pa.float32(), "mean grey value of the resized image, 0 to 255"),
    field("contrast", pa.float32(), "standard deviation of the grey values of the resized image"),
    field("sharpness", pa.float32(), "variance of the 4-neighbour Laplacian of the resized grey image"),
]

# The model fills these.
MAP = [
    field("map", pa.binary(), "anomaly map, row-major uint8; value = map_offset + map_scale * byte"),
    field("map_height", pa.int16(), "rows of the map", "cells"),
    field("map_width", pa.int16(), "columns of the map", "cells"),
    field("map_scale", pa.float32(), "map value per byte step"),
    field("map_offset", pa.float32(), "map value of byte 0"),
    field("embedding", pa.binary(), "32 float16, little-endian: pooled whitened features"),
]

# These say where a row comes from.
MODEL = field("model", pa.string(), "stable name of the model, not a version", nullable=False)
MODEL_DIGEST = field("model_digest", pa.string(), "scoring digest of the model", nullable=False)
SCORING_VERSION = field("scoring_version", pa.int32(), "version of the code that a score depends on", nullable=False)
CALIBRATION_DIGEST = field("calibration_digest", pa.string(), "digest of the calibration; null when uncalibrated")
DATE = field("date", pa.string(), "production day, or `none`", nullable=False)
PERIOD = field(
    "period", pa.string(), "month of the production day, 2026-01; the day itself if it is no ISO date", nullable=False
)
UNIT_ID = field("unit_id", pa.string(), "work unit in which the image was scored", nullable=False)
RUN_ID = field("run_id", pa.string(), "scoring run of the row, `<model>-<slice>`: sorts like the slices", nullable=False)
DEVICE = field(
    "device", pa.string(), "device and precision that scored, for example `cpu-bf16`: scores of one such mode compare"
)
HARDWARE = field(
    "hardware", pa.string(), "chip and libraries that scored, in words: the same ones give the same bits; null when not known"
)


def key_field(name: str) -> pa.Field:
    """The nullable string column of one key of the path pattern, such as `line` or `product`."""
    return field(name, pa.string(), f"key column: the part of the path that the key pattern calls {{{name}}}")


def fault(always: bool) -> list[pa.Field]:
    """Columns of an image's fault. always: every row has one; otherwise null means that nothing failed."""
    unless = "" if always else "; null when nothing failed"
    return [
        field("stage", pa.string(), f"stage that failed: read, decode or score{unless}", nullable=not always),
        field("error", pa.string(), f"short reason code, for example truncated, gone, changed{unless}", nullable=not always),
        field("message", pa.string(), f"one sentence for a person{unless}"),
        field("byte_offset", pa.int64(), "offset of the fault within the object, where it has one", "bytes"),
    ]
