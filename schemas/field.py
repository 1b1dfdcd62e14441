"""One column with its meaning and unit, so that every file explains itself."""

import pyarrow as pa


def field(name: str, dtype: pa.DataType, meaning: str, unit: str = "", nullable: bool = True) -> pa.Field:
    """A column whose meaning (one sentence) and unit (empty for none) travel in its metadata."""
    return pa.field(name, dtype, nullable=nullable, metadata={"meaning": meaning, "unit": unit})
