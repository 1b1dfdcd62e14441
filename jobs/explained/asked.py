"""Images that somebody wants explained, as they are stored."""

from typing import NamedTuple


class Asked(NamedTuple):
    """One image. name: for people.  encoded: as stored; None if it cannot be had, for the reason `fault`.
    image_id, published: its id and score in the tables; None for an image of --input.
    """

    name: str
    encoded: bytes | None
    fault: str = ""
    image_id: str | None = None
    published: float | None = None
