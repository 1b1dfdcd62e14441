"""Reads the YAML file of --config: a key is the name of an option, or its place in the settings model.

max_error_share: 0.1            # as --max-error-share; with - too
limits: {window_units: 500}     # what is no option has its place below a section
"""

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_origin

import yaml
from pydantic import BaseModel
from yaml.composer import ComposerError

from jobs.command.errors import UsageError
from jobs.command.flags import CommandFlag, flags_of
from jobs.command.text_files import read_text

NOT_YAML = (  # a value that does not fit its tag raises what its conversion raises; deep nesting raises RecursionError
    *(yaml.YAMLError, ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, RecursionError),
)
MESSAGE_CHARACTERS = 1000
MERGE, TIMESTAMP = "tag:yaml.org,2002:merge", "tag:yaml.org,2002:timestamp"

Place = tuple[str, ...]


class SettingsLoader(yaml.SafeLoader):
    """Refuses a key that stands twice in a mapping, of which YAML takes the last; days stay text, as on the command line."""

    yaml_implicit_resolvers = {
        first: [(tag, regex) for tag, regex in resolvers if tag != TIMESTAMP]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_mapping_node(self, anchor: Any) -> Any:
        node = super().compose_mapping_node(anchor)
        met: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.tag != MERGE):
            if key.value in met:
                raise ComposerError(None, None, f"the key {key.value[:100]!r} stands twice", key.start_mark)
            met.add(key.value)
        return node


def read(config_file: Path) -> dict[str, Any]:
    """The file's content as it is written. Raises UsageError."""
    text = read_text("--config", config_file, "YAML file")
    try:
        content = _parsed(text)
    except NOT_YAML as error:
        line = " ".join(str(error).split())[:MESSAGE_CHARACTERS]
        raise UsageError("--config", "a YAML file", str(config_file), f"The parser says: {line}.") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UsageError("--config", "a YAML mapping", type(content).__name__, "Write one `key: value` a line.")
    return content


def placed(model: type[BaseModel], content: Mapping[str, Any]) -> dict[str, Any]:
    """The content with each setting in its place in the model. Keys that the model does not know stay where they are.

    Raises UsageError for a setting that is given in two places.
    """
    flags = flags_of(model)
    options = {option_of(flag): flag for flag in flags}
    settings: dict[str, Any] = {}
    options_given: list[tuple[str, CommandFlag, Any]] = []
    written: dict[str, str] = {}
    for key, value in content.items():
        name = key.replace("-", "_") if isinstance(key, str) else key
        if name not in model.model_fields and name not in options:
            settings[key] = value
            continue
        if name in written:
            raise _twice(name, written[name], key)
        written[name] = key
        if name not in model.model_fields:
            options_given.append((key, options[name], value))
        elif value is not None or _section(model, name) is None:  # a section with nothing below it is none
            settings[name] = dict(value) if isinstance(value, Mapping) else value
    for key, flag, value in options_given:
        _put(settings, flag.path, key, value)
    for flag in flags:
        if flag.also and isinstance(section := settings.get(flag.also[0]), dict) and flag.also[1] in section:
            _put(settings, flag.path, ".".join(flag.also), section.pop(flag.also[1]))
    return settings


def option_of(flag: CommandFlag) -> str:
    """The name by which the file knows a flag at its top: `max_error_share` of --max-error-share."""
    return flag.path[-1] if flag.name is None else flag.name.removeprefix("--").replace("-", "_")


def advice(model: type[BaseModel], parents: list[str], beside: list[str], key: str) -> str:
    """What a key that the model does not know at this place may mean: it belongs elsewhere, or is misspelt. "" for no idea.

    Args:
        parents: the sections around it.
        beside: the keys that are known there.
    """
    name, here = key.replace("-", "_"), tuple(parents)
    places = [(option_of(flag),) for flag in flags_of(model)] + list(_places(model))
    if elsewhere := next((place for place in places if place[-1] == name and place[:-1] != here), None):
        return f" It belongs {_where(elsewhere)}."
    if near := difflib.get_close_matches(name, beside, n=1):
        return f" Did you mean {near[0]!r}?"
    if near := difflib.get_close_matches(name, [place[-1] for place in places], n=1):
        return f" Did you mean {near[0]!r} {_where(next(place for place in places if place[-1] == near[0]))}?"
    free = [(name, field) for name, field in model.model_fields.items() if field.annotation == dict[str, Any]]
    taken = ", ".join(f"`{name}:` takes {field.description}" for name, field in free if not here)
    return f" {taken}." if taken else ""


def _parsed(text: str) -> Any:
    loader = SettingsLoader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def _put(settings: dict[str, Any], path: Place, key: str, value: Any) -> None:
    """Into its place, unless what stands in the place of its section is none: then the section is at fault."""
    for name in path[:-1]:
        inner = settings.setdefault(name, {})
        if not isinstance(inner, dict):
            return
        settings = inner
    if path[-1] in settings:
        raise _twice(path[-1], ".".join(path), key)
    settings[path[-1]] = value


def _twice(name: str, first: str, second: str) -> UsageError:
    return UsageError(name, "given once", f"{first} and {second}", "Remove one of them.")


def _section(model: type[BaseModel], name: str) -> type[BaseModel] | None:
    """The model of a field that is a section of the file."""
    kind = model.model_fields[name].annotation
    return kind if get_origin(kind) is None and isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _places(model: type[BaseModel], above: Place = ()) -> Iterator[Place]:
    for name in model.model_fields:
        yield (*above, name)
        if (inner := _section(model, name)) is not None:
            yield from _places(inner, (*above, name))


def _where(place: Place) -> str:
    return f"below `{'.'.join(place[:-1])}:`" if len(place) > 1 else "at the top"
