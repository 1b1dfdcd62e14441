"""What the decoder's process and its parent tell each other, a line of JSON each; pictures go through shared memory."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from pipeline.decode.config import DecodeConfig
from pipeline.decode.faults import Undecodable
from pipeline.decode.image import Picture


class DecodedRow(NamedTuple):
    """The columns of one image (schemas.commit.DECODED), or its fault (schemas.encoded.FAILURE); all None for no image."""

    width: int | None = None
    height: int | None = None
    captured_at: datetime | None = None
    brightness: float | None = None
    contrast: float | None = None
    sharpness: float | None = None
    stage: str | None = None
    error: str | None = None
    message: str | None = None

    @classmethod
    def of(cls, picture: Picture) -> "DecodedRow":
        size = picture.width, picture.height
        return cls(*size, picture.captured_at, picture.brightness, picture.contrast, picture.sharpness)

    @classmethod
    def failed(cls, error: str, message: str) -> "DecodedRow":
        return cls(stage="decode", error=error, message=message)

    @classmethod
    def undecodable(cls, fault: Undecodable) -> "DecodedRow":
        return cls.failed(fault.error, str(fault))


@dataclass(frozen=True)
class Request:
    """Images to decode, or tiles to cut from the one image of the request before.

    places: pictures of the input's size that the shared memory has room for.  size: of that memory, bytes.  timeout_s: for one
    image.  lengths: encoded bytes of each image.  origins: (top, left) of the tiles, px; None asks for images.  last: no
    further tiles will be asked for.
    """

    config: DecodeConfig
    places: int
    size: int
    timeout_s: float
    lengths: tuple[int, ...] = ()
    origins: tuple[tuple[int, int], ...] | None = None
    last: bool = False

    def line(self) -> str:
        """One line of JSON, with its end."""
        return json.dumps(vars(self) | {"config": self.config.model_dump()}) + "\n"

    @classmethod
    def of(cls, line: str) -> "Request":
        told = json.loads(line)
        origins = None if told["origins"] is None else tuple((top, left) for top, left in told["origins"])
        return cls(**told | {"config": DecodeConfig(**told["config"]), "lengths": tuple(told["lengths"]), "origins": origins})


def rows_line(rows: Sequence[DecodedRow]) -> str:
    """One line of JSON, with its end."""
    return json.dumps(rows, default=datetime.isoformat) + "\n"


def rows_of(line: str) -> list[DecodedRow]:
    """The rows that `rows_line` wrote."""
    rows = [DecodedRow(*cells) for cells in json.loads(line)]
    return [row._replace(captured_at=datetime.fromisoformat(str(row.captured_at))) if row.captured_at else row for row in rows]
