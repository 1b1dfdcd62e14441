"""Reads listed objects of any kind in this process, unit by unit, without Ray."""

from collections.abc import Iterable, Iterator
from itertools import groupby

from pipeline.input import registry
from pipeline.input.config import Part, SourceConfig, Start
from pipeline.storage.objects import Object
from pipeline.storage.store import Store


def listed_parts(entries: Iterable[Object], source: SourceConfig, store: Store) -> Iterator[Part]:
    """All images of the objects, in the order of the objects. What no source claims is read as an image."""
    for name, group in groupby(entries, key=lambda entry: registry.claiming(entry.key) or registry.LAST):
        for unit in registry.source(name).plan((source.dated(entry, name) for entry in group), source, store):
            yield from registry.source(unit.source).read(unit, store, source, Start())
