"""The images at a place that a flag names: one image, or those of a folder, prefix or shard in storage or on a disk."""

import os
from collections.abc import Iterable

from jobs.command.errors import UsageError
from jobs.command.places import local_place, object_address
from jobs.command.progress import Progress
from jobs.explained.asked import Asked
from jobs.images.folder_walk import as_key
from pipeline.input.config import SourceConfig
from pipeline.input.listed_parts import listed_parts
from pipeline.input.listing import Listing
from pipeline.storage.objects import Object, listed
from pipeline.storage.store import Store, open_store

RULE = "an image or a folder of images"
MOST_IN_A_UNIT = 1000


def given_images(flag: str, place: str, most: int) -> list[Asked]:
    """The first `most` images in the order of their keys, also those that cannot be read. Links are followed.

    Raises:
        UsageError: there is no such place, or no image in it.  StorageError.
    """
    store, only = _place(flag, place)
    source = SourceConfig(input_uri=store.uri, follow_links=True, unit_images=min(most, MOST_IN_A_UNIT))
    entries: Iterable[Object] = Listing(source, store) if only is None else [only]
    found: list[Asked] = []
    with Progress(f"reading the images of {flag}", total=None) as progress:
        for part in listed_parts(entries, source, store):
            for row in part.table.select(["key", "encoded", "message"]).to_pylist():
                found.append(Asked(row["key"], row["encoded"], row["message"] or ""))
            progress.note(f"{len(found):,} are read")
            if len(found) >= most:
                break
    if not found:
        raise UsageError(flag, RULE, place, "It holds no images.")
    return found[:most]


def _place(flag: str, place: str) -> tuple[Store, Object | None]:
    """The store of a folder or prefix; for a single object the store around it, and the object."""
    local = local_place(place)
    if local is None:
        if (address := object_address(place)) is not None:
            around, name = open_store(address[0]), address[1]
            if (found := listed(around, name)) is not None:
                return around, found
        return open_store(place), None
    if local.is_dir():
        return open_store(local, follow_links=True), None
    store = open_store(local.absolute().parent, follow_links=True)
    found = listed(store, as_key(os.fsencode(local.name))) if local.is_file() else None
    if found is None:
        raise UsageError(flag, RULE, place, "Check the path.")
    return store, found
