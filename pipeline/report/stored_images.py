"""Fetches the stored images of rows of `scores` for display; says why when one is no longer available."""

import contextlib
from collections.abc import Iterator
from itertools import groupby
from typing import NamedTuple

from pipeline.input import registry
from pipeline.input.config import NO_DATE, SourceConfig, Start
from pipeline.input.identity import canonical_uri, content_hash
from pipeline.input.listing import open_input
from pipeline.input.parquet.parser import Unparsable
from pipeline.input.parquet.shard import ParquetShard
from pipeline.input.parquet_columns import NoSuchColumn, row_name
from pipeline.storage.objects import Denied, Gone, StorageError, listed
from pipeline.storage.store import Store
from schemas.plan import PlannedObject, UnitContent

GONE = "the stored object no longer exists"
CHANGED = "the stored object was changed after it was scored"


class Wanted(NamedTuple):
    """One row of scores: the columns that name the image, and its hash."""

    image_id: str
    uri: str
    member: str | None
    content_hash: str | None


def fetch(wanted: list[Wanted], config: SourceConfig) -> dict[str, bytes | str]:
    """The encoded bytes of each image by image_id, or a sentence why it cannot be shown.

    A tar shard is read from its start to its last wanted member, a Parquet shard only in the row groups needed.

    Args:
        config: tells where the run's images come from.
    """
    store = open_input(config)
    base = canonical_uri(store.uri, "")
    found: dict[str, bytes | str] = {}
    for uri, group in groupby(sorted(wanted, key=lambda image: image.uri), key=lambda image: image.uri):
        images = list(group)
        here: dict[str, bytes | str]
        try:
            here = dict(_read(store, uri.removeprefix(base), images, config))
        except Gone:
            here = {image.image_id: GONE for image in images}
        except StorageError as error:
            here = {image.image_id: f"storage did not deliver it: {error}" for image in images}
        except (OSError, Unparsable, NoSuchColumn) as error:
            here = {image.image_id: f"the shard cannot be read: {error}" for image in images}
        found |= {image.image_id: here.get(image.image_id, CHANGED) for image in images}
    return found


def _read(store: Store, key: str, images: list[Wanted], config: SourceConfig) -> Iterator[tuple[str, bytes]]:
    """(image_id, bytes) of images that have not changed since they were scored."""
    if images[0].member is None:
        encoded = store.get(key)
        yield from ((image.image_id, encoded) for image in images if image.content_hash == content_hash(encoded))
    elif registry.claiming(key) == "parquet":
        yield from _from_parquet(store, key, images, config)
    else:
        yield from _from_tar(store, key, images, config)


def _from_tar(store: Store, key: str, images: list[Wanted], config: SourceConfig) -> Iterator[tuple[str, bytes]]:
    shard = listed(store, key)
    if shard is None:
        raise Gone(key)
    planned = PlannedObject(shard.key, shard.size, shard.etag)
    unit = UnitContent(source="tar", date=NO_DATE, objects=(planned,), images=None, size=shard.size)
    left = _by_content(images)
    with contextlib.closing(registry.source("tar").read(unit, store, config, Start())) as parts:
        for part in parts:
            for row in part.table.select(["member", "content_hash", "encoded", "error", "message"]).to_pylist():
                if row["member"] is None and row["error"] in ("refused", "archived"):
                    raise Denied(row["message"])
                for image_id in left.pop((row["member"], row["content_hash"]), []):
                    yield image_id, row["encoded"]
            if not left:
                return


def _from_parquet(store: Store, key: str, images: list[Wanted], config: SourceConfig) -> Iterator[tuple[str, bytes]]:
    left, members = _by_content(images), {image.member for image in images}
    first = 0
    with ParquetShard(store, key, None, config) as shard:
        for group, (rows, _) in enumerate(shard.groups):
            names = [row_name(number, config) for number in range(first, first + rows)]
            first += rows
            if config.id_column is not None:
                ids = shard.ids(group)
                names = [name if row_id is None else row_id for name, row_id in zip(names, ids, strict=False)]
            if members.isdisjoint(names):
                continue
            for name, cell in zip(names, shard.cells(group, 0, config.unit_images), strict=False):
                if name in members and cell.content is not None:
                    for image_id in left.pop((name, content_hash(cell.content)), []):
                        yield image_id, cell.content


def _by_content(images: list[Wanted]) -> dict[tuple[str | None, str | None], list[str]]:
    """Ids of the images by what tells them apart within a shard: several may have one name, or be alike."""
    left: dict[tuple[str | None, str | None], list[str]] = {}
    for image in images:
        left.setdefault((image.member, image.content_hash), []).append(image.image_id)
    return left
