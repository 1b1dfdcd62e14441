"""The flags of a verb, derived from its settings model's fields, so that name, type, help, default and range are written once.

A new setting is one line of the model. With plain `int` instead of `Flag[int]` only the file of --config sets it:

    limit: Flag[int] = Field(16, ge=1, description="images of a folder, the first by name")

`Annotated[T, Named("--json")]` gives a flag another name than its field's. `Annotated[T, Argument()]` makes it positional.
A --config file knows each flag by its name without the dashes (jobs/command/config_file.py).
`source: Annotated[SourceOptions, Flags("date")]` makes `date` of a nested model a flag, with the description that it has there.
tests/jobs/command/test_flags.py lists the flags of every verb: add the new one there.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo

PLAIN = (bool, int, float, Path)  # the command line converts these; the model's validators read every other value as text
METAVAR_CHARACTERS = 20  # the help lists longer choices


@dataclass(frozen=True)
class Named:
    """Marks a field as a flag; `name` is set if it differs from the field's.

    also: another place in the file of --config, section and key.
    """

    name: str | None = None
    also: tuple[str, str] | None = None


@dataclass(frozen=True)
class Argument:
    """Marks a field as a positional argument."""


@dataclass(frozen=True, init=False)
class Flags:
    """Marks a field that is a nested model, and names those of its fields that are flags."""

    fields: tuple[str, ...]

    def __init__(self, *fields: str) -> None:
        object.__setattr__(self, "fields", fields)


T = TypeVar("T")
Flag = Annotated[T, Named()]
"""`Flag[int]` is an int that is also a flag."""


@dataclass(frozen=True)
class CommandFlag:
    """A flag as the command line shows it.

    path: names of the fields that lead to it, from the settings model on.  name: None for a positional argument.
    kind: the type that the text becomes; list[str] for a flag that may be repeated.  metavar: the choices, if they are few.
    also: another place in the file of --config.
    """

    path: tuple[str, ...]
    name: str | None
    kind: Any
    help: str
    metavar: str | None
    also: tuple[str, str] | None = None


def flags_of(model: type[BaseModel]) -> list[CommandFlag]:
    """The flags of a settings model in the order of its fields; inherited fields come last."""
    names = [name for kind in model.__mro__ for name in vars(kind).get("__annotations__", {}) if name in model.model_fields]
    return [flag for name in names for flag in _of_field(name, model.model_fields[name])]


def only_in_the_file(model: type[BaseModel]) -> list[str]:
    """The fields that need a --config file, wholly or in part; a verb without such fields has no --config."""
    return [name for name, field in model.model_fields.items() if not isinstance(_mark(field), Named | Argument)]


def nested(flags: list[CommandFlag], given: Mapping[str, Any]) -> dict[str, Any]:
    """Turns values by the last name of their path into the nested dictionary that fills the settings model."""
    settings: dict[str, Any] = {}
    for flag in flags:
        place = settings
        for name in flag.path[:-1]:
            place = place.setdefault(name, {})
        value = given[flag.path[-1]]
        place[flag.path[-1]] = None if value == [] else value  # a repeatable flag that is not given
    return settings


def _of_field(name: str, field: FieldInfo) -> Iterator[CommandFlag]:
    mark = _mark(field)
    if isinstance(mark, Flags):
        inner = field.annotation
        assert isinstance(inner, type) and issubclass(inner, BaseModel), name
        for each in mark.fields:
            yield _flag((name, each), f"--{each.replace('_', '-')}", inner.model_fields[each])
    elif isinstance(mark, Argument):
        yield _flag((name,), None, field)
    elif mark is not None:
        yield replace(_flag((name,), mark.name or f"--{name.replace('_', '-')}", field), also=mark.also)


def _mark(field: FieldInfo) -> Named | Argument | Flags | None:
    return next((mark for mark in field.metadata if isinstance(mark, Named | Argument | Flags)), None)


def _flag(path: tuple[str, ...], name: str | None, field: FieldInfo) -> CommandFlag:
    assert field.description, f"{'.'.join(path)} is a flag and needs Field(description=...)"
    kind = _without_none(field.annotation)
    assert kind is not bool or field.default is False, f"{'.'.join(path)}: a flag can only switch on, so its default is False"
    choices = get_args(kind) if get_origin(kind) is Literal else ()
    if get_origin(kind) is list:
        kind = list[str]
    elif kind not in PLAIN:
        kind = str
    metavar = "|".join(choices) if sum(map(len, choices)) <= METAVAR_CHARACTERS else ""
    further = "" if metavar else ", ".join(choices)
    return CommandFlag(path, name, kind, _help(field, further), metavar or None)


def _help(field: FieldInfo, choices: str) -> str:
    """The description with what else is to know in brackets: `how many images to show  [default: 24; 1<=x<=500]`."""
    default, notes = field.default, []
    if field.is_required():
        notes.append("required")
    elif default is not None and default is not False and default != []:
        notes.append(f"default: {_text(default)}")
    notes += [note for note in (_range(field), choices) if note]
    return f"{field.description}  [{'; '.join(notes)}]" if notes else str(field.description)


def _text(value: Any) -> str:
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _range(field: FieldInfo) -> str:
    """The range of a field, such as `0<=x<1` or `x>=1`; blank without one."""
    low = next(((m.ge, "=") if isinstance(m, Ge) else (m.gt, "") for m in field.metadata if isinstance(m, Ge | Gt)), None)
    high = next(((m.le, "=") if isinstance(m, Le) else (m.lt, "") for m in field.metadata if isinstance(m, Le | Lt)), None)
    above = f"<{high[1]}{high[0]}" if high else ""
    if low is None:
        return f"x{above}" if above else ""
    return f"{low[0]}<{low[1]}x{above}" if above else f"x>{low[1]}{low[0]}"


def _without_none(annotation: Any) -> Any:
    if get_origin(annotation) not in (Union, UnionType):
        return annotation
    kinds = [kind for kind in get_args(annotation) if kind is not NoneType]
    return kinds[0] if len(kinds) == 1 else str
