"""What calibration.json holds, and the names and kinds of the arrays in calibration.safetensors."""

import math
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import BaseModel, Field, model_validator

from models.calibration.calibration import Challenge, Grid, Keys, Mode, Repeats, StoredImage
from models.maps.map_scale import MapScale
from models.verdicts.rates import rate_of

FORMAT: Literal[1] = 1
LATER = ("repeats", "map_scale")
"""Fields that files of the same format lack if an earlier version wrote them; not written if there is nothing to say."""
MOST = 10**9  # pieces of a challenge; more digits than a float64 or an int64 has are no count
Finite = Annotated[float, Field(allow_inf_nan=False)]


class ViewScale(BaseModel, frozen=True, extra="forbid"):
    """The scale of a view, by raw scores of the selection set."""

    view: str
    q50: Finite
    q90: Finite


class Pieces(BaseModel, frozen=True, extra="forbid"):
    """The pieces of a group with the same images. images: of each view.  lots: that these pieces are from."""

    images: dict[str, Annotated[int, Field(ge=0)]]
    pieces: Annotated[int, Field(ge=0)]
    lots: Annotated[int, Field(ge=0)]


class GroupPart(BaseModel, frozen=True, extra="forbid"):
    """A calibration group. by: value of each key; empty for all good pieces."""

    by: dict[str, str]
    sets: Annotated[list[Pieces], Field(min_length=1)]


class Document(BaseModel, frozen=True, extra="forbid"):
    """calibration.json. The arrays are beside it; counts in here are for people and are checked against the arrays."""

    format: Literal[1] = FORMAT
    model_digest: str
    mode: Mode
    grid: Grid
    keys: Keys
    scales: Annotated[list[ViewScale], Field(min_length=1)]
    scales_from: str
    groups: Annotated[list[GroupPart], Field(min_length=1)]
    lots: Annotated[list[str], Field(min_length=1)]
    values_seen: dict[str, list[str]]
    images: Annotated[int, Field(ge=1)]
    stored_images: list[StoredImage]
    challenge: Challenge | None
    repeats: Repeats | None = None
    map_scale: MapScale | None = None

    @model_validator(mode="after")
    def _fits_itself(self) -> Self:
        views, by = [scale.view for scale in self.scales], list(self.keys.by)
        if views != sorted(set(views)) or not all(scale.q90 > scale.q50 for scale in self.scales):
            raise ValueError("scales must have each view once, by name, and a 90 % point above the median")
        if any(sorted(one.images) != views for group in self.groups for one in group.sets):
            raise ValueError("sets must count images of every view that has a scale, and of no other")
        if any(sorted(group.by) != (sorted(by) if at else []) for at, group in enumerate(self.groups)):
            raise ValueError("groups must begin with all pieces, and each further one must have a value of every key of by")
        if sorted(self.values_seen) != sorted(by):
            raise ValueError("values_seen must have the values of every key of by")
        low, high = self.map_scale or (0.0, 0.0)
        if not (math.isfinite(low) and math.isfinite(high) and low <= high):
            raise ValueError("map_scale must be two finite numbers, low no larger than high")
        found, same = (self.challenge.detected if self.challenge else ()), (self.repeats.agreements if self.repeats else ())
        counts = [(one.rate, one.flagged, one.pieces) for one in found]
        counts += [(one.rate, count, one.pieces) for one in same for count in (one.agreeing, one.flagged)]
        if any(not 0 <= count <= pieces for _, count, pieces in counts) or not all(0 <= one.pairs <= 1 for one in same):
            raise ValueError("challenge and repeats must count no more pieces than there are")
        if any(pieces > MOST for _, _, pieces in counts):
            raise ValueError(f"challenge and repeats must count at most {MOST:,} pieces")
        for rate, _, _ in counts:
            rate_of(rate)
        if not all(math.isfinite(image.score) for image in self.stored_images):
            raise ValueError("stored_images must have finite scores")
        return self


class Kind(NamedTuple):
    """The kind of an array. family: arrays of one family are columns of one table and have one length."""

    family: str
    dtype: Literal["float32", "int32", "uint8"]
    width: int | None = None  # of a second axis


def arrays(groups: int) -> dict[str, Kind]:
    """Name and kind of every array for so many groups.

    >>> sorted(arrays(groups=1))[:3]
    ['groups.0.lot', 'groups.0.number', 'groups.0.piece']
    """
    found = {"images.score": Kind("images", "float32"), "selection.score": Kind("selection", "float32")}
    found |= {f"images.{column}": Kind("images", "int32") for column in ("piece", "view")}
    found |= {"selection.lot": Kind("selection", "int32"), "hashes": Kind("hashes", "uint8", 16)}
    for at in range(groups):
        found[f"groups.{at}.score"] = Kind(f"groups.{at}", "float32")
        found |= {f"groups.{at}.{column}": Kind(f"groups.{at}", "int32") for column in ("number", "lot", "piece")}
    return found


def plain(value: Any) -> Any:
    """Named tuples as dictionaries, all the way down, as JSON holds them.

    >>> plain(Mode("cpu-float32", 16, 5))
    {'label': 'cpu-float32', 'batch_size': 16, 'scoring_version': 5}
    """
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {name: plain(each) for name, each in value._asdict().items()}
    return [plain(each) for each in value] if isinstance(value, list | tuple) else value
