"""Lists the sources: every module of pipeline/sources, with the functions `claims`, `plan` and `read`."""

import functools
import importlib
import pkgutil
from collections.abc import Callable
from types import ModuleType

import pipeline.sources

LAST = "files"  # loose images, which no shard source claims


@functools.cache
def names() -> list[str]:
    """Source names, the one for loose images last."""
    found = {module.name for module in pkgutil.iter_modules(pipeline.sources.__path__)}
    return [*sorted(found - {LAST}), LAST]


@functools.cache
def source(name: str) -> ModuleType:
    """The source of that name; only its module is imported."""
    if name not in names():
        raise ValueError(f"source must be one of {', '.join(names())}; got {name!r}. Correct the name.")
    return importlib.import_module(f"pipeline.sources.{name}")


@functools.lru_cache(maxsize=64)  # planning asks twice in a row for every object
def claiming(key: str) -> str | None:
    """The name of the source that reads an object of this key; None for hidden names and sidecars."""
    for name, claims in _claims():
        if claims(key):
            return name
    return None


@functools.cache
def _claims() -> list[tuple[str, Callable[[str], bool]]]:
    return [(name, source(name).claims) for name in names()]
