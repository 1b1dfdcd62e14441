"""The place of a model that is to be trained: free, or with a model that may be replaced; asked before the training."""

import json
from datetime import UTC, datetime
from pathlib import Path

from jobs.command.errors import UsageError
from jobs.command.places import check_folder, check_store, local_place
from models import artifact
from pipeline.storage.objects import PROBE, Object, StorageError
from pipeline.storage.store import Store

FLAG = "--model-out"
FILES = {artifact.CONFIG, artifact.WEIGHTS, artifact.CARD, artifact.DIGESTS, *artifact.CALIBRATION_FILES}


def check_model_place(uri: str, overwrite: bool) -> Path | None:
    """The folder for the model on this machine; None for a place in storage.

    Raises:
        UsageError: it cannot be written, or holds a model and `overwrite` is not given.
        ArtifactError: it holds files that are no model.
    """
    place = local_place(uri)
    if place is None:
        _check_stored(check_store(FLAG, uri), uri, overwrite)
        return None
    check_folder(FLAG, place.parent)
    artifact.check_place(place)
    digests = place / artifact.DIGESTS
    if digests.is_file() and not overwrite:
        weights = place / artifact.WEIGHTS
        written = (weights if weights.is_file() else digests).stat().st_mtime
        raise _taken(uri, digests.read_bytes(), written)
    return place


def _check_stored(store: Store, uri: str, overwrite: bool) -> None:
    """An upload puts the card first and the digests last; an interrupted one leaves a place that is free."""
    objects = {entry.key: entry for entry in store.list() if not entry.key.startswith(PROBE)}
    is_model = artifact.DIGESTS in objects
    strangers = [key for key in objects if key not in FILES or artifact.CARD not in objects]
    if strangers and not is_model:
        fix = "Choose another place: it is neither empty nor a model's."
        raise UsageError(FLAG, "a place without other objects", f"{uri} with {strangers[0]}", fix)
    if is_model and not overwrite:
        written = objects.get(artifact.WEIGHTS, objects[artifact.DIGESTS])
        try:
            digests = store.get(artifact.DIGESTS)
        except StorageError:
            digests = b""
        raise _taken(uri, digests, _modified(written))
    if any(name in objects for name in artifact.CALIBRATION_FILES):  # it belongs to no other model, so it will be deleted
        check_store(FLAG, uri, deletes=True)


def _modified(entry: Object) -> float:
    """Seconds since 1970 by the listing; 0 where the store does not say."""
    seconds = entry.stamp.rpartition(":")[2]
    return float(seconds) if seconds.isdecimal() else 0.0


def _taken(uri: str, digests: bytes, written: float) -> UsageError:
    try:
        digest = str(json.loads(digests)["model_digest"])[:12]
    except (ValueError, KeyError, TypeError, RecursionError):
        digest = "that cannot be read"
    day = datetime.fromtimestamp(written, UTC)
    fix = (
        f"It holds the model with digest {digest}, written {day:%Y-%m-%d %H:%M} UTC: replace it with --overwrite (in Python "
        "overwrite=True), or choose another place."
    )
    return UsageError(FLAG, "a place without a model", uri, fix)
