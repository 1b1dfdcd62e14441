"""Images of any source that the pipeline knows, in this process and without Ray: for training and evaluation."""

from collections import Counter
from collections.abc import Iterator
from itertools import groupby

import pyarrow as pa

from jobs.command.errors import ErrorShareError
from pipeline.decode.image import DecodeConfig, Decoded, decode_unit
from pipeline.input import registry
from pipeline.input.config import SourceConfig, Start
from pipeline.storage.store import open_store


def encoded_units(source: SourceConfig) -> Iterator[pa.Table]:
    """Every image below the input, unit by unit, in key order, as rows of schemas/encoded.py."""
    store = open_store(source.input_uri)
    objects = (entry for entry in store.list() if registry.claiming(entry.key))
    for name, group in groupby(objects, key=lambda entry: registry.claiming(entry.key)):
        assert name is not None
        reader = registry.source(name)
        for unit in reader.plan(group, source, store):
            for part in reader.read(unit, store, source, Start()):
                yield part.table


def decoded_units(source: SourceConfig, decode: DecodeConfig) -> Iterator[Decoded]:
    """The same decoded; images that cannot be read are rows with an error."""
    for table in encoded_units(source):
        yield decode_unit(table, decode)


def check_unreadable(reasons: Counter[str], total: int, limit: float, where: str) -> None:
    """Raises ErrorShareError when more than the limit, a share of all images, could not be read."""
    failed = sum(reasons.values())
    if total and failed > limit * total:
        listed = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
        raise ErrorShareError(
            f"unreadable images must be at most {limit:.0%} of the input; got {failed} of {total} ({listed}) in {where}. "
            "Repair or remove them, or raise max_unreadable_share in the config."
        )
