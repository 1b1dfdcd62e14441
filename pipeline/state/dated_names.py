"""Names that nobody else has and that say when they were given, for objects that cleaning may find without a reader."""

import uuid
from datetime import UTC, datetime

STAMP = "%Y%m%dT%H%M%SZ"


def new_name() -> str:
    return f"{datetime.now(UTC):{STAMP}}-{uuid.uuid4().hex}"


def named_at(name: str) -> datetime:
    """When `new_name` gave the name, by the clock of who asked; anything may follow it."""
    return datetime.strptime(name.partition("-")[0], STAMP).replace(tzinfo=UTC)
