"""Finds the columns of a Parquet shard that hold the encoded images and their ids."""

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from pipeline.input.config import SourceConfig
from pipeline.input.faults import InputError

FIX = "Set it, or move the file out of the input."
IMAGES = (types.is_binary, types.is_large_binary, types.is_binary_view)
IDS = (types.is_integer, types.is_string, types.is_large_string, types.is_string_view)


class NoSuchColumn(InputError, ValueError):
    """The columns of a Parquet file do not fit the config; the message names the file, the setting and the fix."""


@dataclass(frozen=True)
class Columns:
    """Dotted paths of the leaf columns, as the Parquet footer writes them; id is None when row numbers name the images."""

    image: str
    id: str | None

    def projection(self) -> list[str]:
        return [self.image] if self.id is None else [self.image, self.id]

    def buffers(self, batch: pa.RecordBatch) -> Iterator[tuple[pa.Buffer | None, str | None]]:
        """(encoded image, id) of every row; None for a null cell, and for the id when none is configured."""
        for image, row_id in zip(_leaf(batch, self.image), self.ids(batch), strict=True):
            image = image.value if isinstance(image, pa.DictionaryScalar) else image
            yield image.as_buffer() if image is not None and image.is_valid else None, row_id

    def ids(self, batch: pa.RecordBatch) -> Iterator[str | None]:
        """The ids as in `buffers`; the batch may lack the images."""
        row_ids = _leaf(batch, self.id) if self.id else [None] * len(batch)
        return (None if row_id is None or not row_id.is_valid else id_text(row_id) for row_id in row_ids)


def row_name(row: int, config: SourceConfig) -> str:
    """Member name of a row that is named by its number in the file."""
    return str(row) if config.id_column is None else f"row {row}"


def id_text(row_id: pa.Scalar) -> str:
    """A row's id as its member name; bytes that are not UTF-8 appear as `\\xNN`."""
    row_id = row_id.value if isinstance(row_id, pa.DictionaryScalar) else row_id
    is_number = types.is_integer(row_id.type)
    return str(row_id.as_py()) if is_number else row_id.as_buffer().to_pybytes().decode("utf-8", "backslashreplace")


def find_columns(key: str, schema: pa.Schema, config: SourceConfig) -> Columns:
    """The columns that the config names, or the only one that can hold images.

    Raises NoSuchColumn when a named one is missing or of another type, or when none or several qualify.
    """
    return Columns(_image_column(key, schema, config.image_column), _id_column(key, schema, config.id_column))


def _image_column(key: str, schema: pa.Schema, configured: str | None) -> str:
    if configured is not None:
        found = _images_in(configured, _type(schema, configured))
        if found is None:
            raise NoSuchColumn(
                f"image_column must name a binary column, or a struct with a binary field `bytes`, of {key!r}; "
                f"got {configured!r}. Its columns are {_columns(schema)}"
            )
        return found
    candidates = [found for field in schema if (found := _images_in(field.name, field.type))]
    if len(candidates) == 1:
        return candidates[0]
    if not candidates:
        raise NoSuchColumn(f"{key!r} must have a column of encoded images; got {_columns(schema)}. {FIX}")
    raise NoSuchColumn(f"image_column must be one of {', '.join(candidates)} for {key!r}; got None. {FIX}")


def _id_column(key: str, schema: pa.Schema, configured: str | None) -> str | None:
    dtype = _plain(_type(schema, configured)) if configured else None
    if configured and not (dtype and any(holds(dtype) for holds in IDS)):
        raise NoSuchColumn(
            f"id_column must name a column of strings or integers of {key!r}; got {configured!r}. "
            f"Its columns are {_columns(schema)}"
        )
    return configured


def _images_in(path: str, dtype: pa.DataType | None) -> str | None:
    if dtype is not None and types.is_struct(dtype):
        index = dtype.get_field_index("bytes")
        return _images_in(f"{path}.bytes", dtype.field(index).type) if index >= 0 else None
    dtype = _plain(dtype)
    return path if dtype is not None and any(holds(dtype) for holds in IMAGES) else None


def _plain(dtype: pa.DataType | None) -> pa.DataType | None:
    """The value type of a dictionary column; any other type unchanged."""
    return dtype.value_type if dtype is not None and types.is_dictionary(dtype) else dtype


def _type(schema: pa.Schema, path: str) -> pa.DataType | None:
    first, *rest = path.split(".")
    index = schema.get_field_index(first)
    dtype = schema.field(index).type if index >= 0 else None
    for name in rest:
        index = dtype.get_field_index(name) if dtype is not None and types.is_struct(dtype) else -1
        dtype = dtype.field(index).type if dtype is not None and index >= 0 else None
    return dtype


def _leaf(batch: pa.RecordBatch, path: str) -> pa.Array:
    first, *rest = path.split(".")
    column = batch.column(first)
    column = pc.struct_field(column, rest) if rest else column
    if types.is_dictionary(column.type):
        _check_indices(column)
    return column


def _check_indices(column: pa.DictionaryArray) -> None:
    """Raises ArrowInvalid when a damaged file's indices are outside its dictionary: nothing else checks."""
    found = pc.min_max(column.indices).as_py()
    if found["min"] is not None and not 0 <= found["min"] <= found["max"] < len(column.dictionary):
        raise pa.ArrowInvalid(f"the indices {found} are not within a dictionary of {len(column.dictionary)}")


def _columns(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} ({field.type})" for field in schema)
