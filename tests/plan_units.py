"""Cuts listed objects into units as the planner does: each object with the production day that the settings give it."""

from collections.abc import Iterable, Iterator
from types import ModuleType

from pipeline.input.config import SourceConfig
from pipeline.storage.objects import Object
from pipeline.storage.store import Store
from schemas.plan import UnitContent


def plan_units(source: ModuleType, objects: Iterable[Object], config: SourceConfig, store: Store) -> Iterator[UnitContent]:
    """The units of a source's module, such as pipeline.sources.tar."""
    name = source.__name__.rpartition(".")[2]
    return source.plan((config.dated(entry, name) for entry in objects), config, store)
