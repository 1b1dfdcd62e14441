"""A job's settings: one frozen pydantic model, filled from a YAML file and from flags; flags win."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from jobs.command.config_file import advice, option_of, placed, read
from jobs.command.errors import CommandError, UsageError
from jobs.command.flags import flags_of, only_in_the_file

Settings = TypeVar("Settings", bound=BaseModel)


class ConfigError(CommandError, ValueError):
    """A setting is missing, or the settings model's own validator refuses it; the message is a full sentence."""


def load(model: type[Settings], config_file: Path | None = None, /, **flags: Any) -> Settings:
    """The settings of the file, overridden by the flags.

    Args:
        model: pydantic model; give it `ConfigDict(frozen=True, extra="forbid")`.
        config_file: YAML mapping from names of options, or of the model's fields, to values.
        flags: what is given on the command line, likewise; None means not given. A dict reaches into a nested model.
    Raises:
        UsageError, ConfigError: for the first fault.
    """
    settings = placed(model, read(config_file) if config_file else {})
    settings = _merge(settings, placed(model, _merge({}, flags)))
    try:
        return model.model_validate(settings)
    except ValidationError as error:
        refused = _explain(model, error.errors()[0], config_file)
    # Outside, or pydantic's error would stay with it in a circle that Python cannot free, and DuckDB speak of leaks at the end.
    raise refused


def _merge(settings: Mapping[str, Any], flags: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(settings)
    for key, value in flags.items():
        if isinstance(value, Mapping):
            inner = merged.get(key)
            value = _merge(inner if isinstance(inner, Mapping) else {}, value)
            if value or key not in merged:
                merged[key] = value
        elif value is not None:
            merged[key] = value
    return merged


def _explain(model: type[BaseModel], error: ErrorDetails, config_file: Path | None) -> ValueError:
    *parents, last = [str(part) for part in error["loc"]] or ["config"]
    field = ".".join([*parents, last])
    if error["type"] == "extra_forbidden":
        valid = _fields(model, parents)
        place = f" in {config_file}" if config_file else ""
        fix = f"Rename or remove it{place}.{advice(model, parents, valid, last)}"
        return UsageError(f"key of {'.'.join(parents) or 'the config'}", f"one of {', '.join(valid)}", last, fix)
    if error["type"] == "missing":
        return ConfigError(f"{field} must be given; got nothing. Add {_ways_to_give(model, field)}.")
    if error["type"] == "value_error":
        return ConfigError(str(error["ctx"]["error"]))
    rule = error["msg"].removeprefix("Input should be ").replace("String should match pattern", "text that matches")
    rule = re.sub(r" or instance of \w+", "", rule)
    place = f" or in {config_file or 'a config'}" if only_in_the_file(model) else ""
    return UsageError(field, rule, error["input"], f"Change it on the command line{place}.")


def _ways_to_give(model: type[BaseModel], field: str) -> str:
    """The flag of a field, and its key if the verb takes a file of settings."""
    named = [flag.name or "it to the command line" for flag in flags_of(model) if ".".join(flag.path) == field]
    return ", or ".join([*named, *([f"`{field}:` to the file of --config"] if only_in_the_file(model) else [])])


def _fields(model: type[BaseModel], parents: list[str]) -> list[str]:
    for name in parents:
        if name in model.model_fields:
            annotation = model.model_fields[name].annotation
            nested = [kind for kind in (annotation, *get_args(annotation)) if isinstance(kind, type)]
            model = next((kind for kind in nested if issubclass(kind, BaseModel)), model)
    options = [] if parents else [option_of(flag) for flag in flags_of(model)]
    return list(dict.fromkeys([*model.model_fields, *options]))
