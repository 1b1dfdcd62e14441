"""Every column of every schema says what it means; tables keep to the types that all readers know."""

import importlib
import pkgutil

import pyarrow as pa
import pytest

import schemas

MODULES = {module.name: importlib.import_module(f"schemas.{module.name}") for module in pkgutil.iter_modules(schemas.__path__)}
SCHEMAS = {name: module.SCHEMA for name, module in MODULES.items() if hasattr(module, "SCHEMA")}
TABLES = ["decisions", "drift", "errors", "lots", "maps", "regions", "runs", "scores"]
MEASURED = {"width": "px", "height": "px", "bytes": "bytes", "size": "bytes", "byte_offset": "bytes", "bytes_read": "bytes"}


def columns(fields, prefix=""):
    for column in fields:
        yield prefix + column.name, column
        inner = column.type.value_type if pa.types.is_list(column.type) else column.type
        if pa.types.is_struct(inner):
            yield from columns([inner.field(i) for i in range(inner.num_fields)], f"{prefix}{column.name}.")


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_column_has_meaning_and_unit(name):
    for path, column in columns(SCHEMAS[name]):
        metadata = {key.decode(): text.decode() for key, text in (column.metadata or {}).items()}
        assert metadata.get("meaning"), f"{name}.{path} has no meaning"
        assert "unit" in metadata, f"{name}.{path} has no unit"
        assert metadata["unit"] == MEASURED.get(column.name, metadata["unit"])


@pytest.mark.parametrize("name", TABLES)
def test_table_modules_are_complete(name):
    module = MODULES[name]
    assert module.VERSION >= 1 and module.ROW_GROUP_ROWS > 0 and module.SORT_BY
    assert set(module.PARTITION_BY) <= set(module.SCHEMA.names)
    assert module.__doc__


@pytest.mark.parametrize("name", TABLES)
def test_table_types_need_no_newer_reader(name):
    for path, column in columns(SCHEMAS[name]):
        kind = column.type
        assert not pa.types.is_unsigned_integer(kind) and not pa.types.is_float16(kind), path
        assert not pa.types.is_boolean(kind), f"{path}: booleans have no statistics that every reader understands"
        assert not pa.types.is_timestamp(kind) or kind == pa.timestamp("us", "UTC"), path


@pytest.mark.parametrize("name", TABLES)
def test_column_names_differ_in_more_than_case(name):
    names = [column.lower() for column in SCHEMAS[name].names]
    assert len(set(names)) == len(names)
