"""Makes a ledger and decides which model scores in it: promotions are entries, and the models lie beside them."""

from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from pipeline.state.entries import Created, Head, Promotion, add_entry, check_keys
from pipeline.state.faults import StateError
from pipeline.state.ledger import Ledger
from pipeline.state.plan import read_state
from pipeline.storage.copies import upload_directory


class OtherModel(StateError, ValueError):
    """The output's images are scored by another version of this model."""


class LateDay(StateError, ValueError):
    """A promotion from a day that has images already."""


@dataclass(frozen=True)
class Trained:
    """A model that is to score: its scoring digest, its config (JSON) and where it lies on this machine."""

    digest: str
    config: dict[str, Any]
    directory: Path


def check_ledger(ledger: Ledger, created: Created, digest: str, from_now_on: bool) -> Head:
    """The head of the ledger, which may not exist yet. Changes nothing.

    Raises:
        OtherKeys, OtherModel: the settings do not fit the ledger.
    """
    head = read_state(ledger)[1]
    check_keys(ledger, head, created.image_id, created.key_pattern)
    if head.digest not in (None, digest) and not from_now_on:
        raise OtherModel(
            f"model must be the version of {ledger.model} that scores in {ledger.output_uri}, digest {str(head.digest)[:12]}; "
            f"got digest {digest[:12]}. To use it for days to come: --from-now-on. To keep both: train it under another --name"
        )
    return head


def prepare_ledger(ledger: Ledger, created: Created, trained: Trained, from_now_on: bool) -> Head:
    """Make the ledger if it does not exist, and promote the model if it is the first or is asked for. Raises as above."""
    while True:
        head = check_ledger(ledger, created, trained.digest, from_now_on)
        if head.number == 0:
            add_entry(ledger, head, created)
        elif head.digest == trained.digest:
            return head
        else:
            promote(ledger, head, trained, next_day(head.last_day) if head.digest and head.last_day else None)


def promote(ledger: Ledger, head: Head, trained: Trained, from_day: str | None) -> bool:
    """Add the promotion after `head`; False when another entry was first. Raises LateDay."""
    if from_day is not None and head.last_day is not None and from_day <= head.last_day:
        raise LateDay(
            f"from must be a day after {head.last_day}, the last one with images of model {ledger.model}; got {from_day}. "
            "A day is scored by one version of a model"
        )
    upload_directory(trained.directory, ledger.artifact_uri(trained.digest))
    return add_entry(ledger, head, Promotion(digest=trained.digest, from_day=from_day, artifact=trained.config))


def next_day(day: str) -> str:
    """The ISO day after."""
    return (date.fromisoformat(day) + timedelta(days=1)).isoformat()
