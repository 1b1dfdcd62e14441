"""The reference nights of a group: what later nights are charted against, made once and kept as it is."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from models.faults import VerdictError
from models.verdicts.drift import LEAST_NIGHTS, Reference
from models.verdicts.night_channels import CHANNELS, WITHOUT_EMBEDDING, NightImages, ViewCentres, centres, night_channels

LEAST_IMAGES = 20
"""A night of fewer images is not charted: the mean of so few varies more between nights than any drift worth a word."""
LEAST_SHARE = 4
"""Nor is one of fewer than the usual number by this: the first images of a day that is scored by and by are not the night."""
REFERENCE_NIGHTS = LEAST_NIGHTS
"""A constant: nobody waits longer for the first chart. From 33 nights on `models.verdicts.drift` would go by ranks."""


class _Text(BaseModel):
    """How it is kept: JSON, floats with all their digits."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    group: str
    nights: tuple[str, ...]
    images: int
    channels: tuple[str, ...]
    values: list[list[float]]
    views: tuple[str, ...]
    log_means: list[list[float]]
    means: list[list[float]]
    width: list[list[float]]
    tail: list[list[float]]


@dataclass(frozen=True, eq=False)
class KeptReference:
    """group: as `drift_groups` has it.  nights: production days, ascending.  centres: of their views.  reference: their
    channels, in that order, and the images of a usual night (the median)."""

    group: str
    nights: tuple[str, ...]
    centres: ViewCentres
    reference: Reference

    @property
    def with_embedding(self) -> bool:
        return self.reference.nights.shape[1] > WITHOUT_EMBEDDING

    @property
    def least_images(self) -> int:
        """So many comparable images a night must have to be charted."""
        assert self.reference.images is not None
        return max(LEAST_IMAGES, -(-self.reference.images // LEAST_SHARE))

    def of_night(self, images: int) -> Reference:
        """The reference for a night of so many images."""
        assert self.reference.images is not None
        return replace(self.reference, images=min(images, self.reference.images))

    def comparable(self, images: NightImages) -> NightImages:
        """The images of views that the reference has, with an embedding if that is charted."""
        return _among(images, self.centres.views, self.with_embedding)

    def channels(self, images: NightImages) -> NDArray[np.float64]:
        """`night_channels` of comparable images, (C,)."""
        return night_channels(images, self.centres)

    def text(self) -> bytes:
        of = self.centres
        assert self.reference.images is not None
        arrays: dict[str, Any] = {
            "values": self.reference.nights.tolist(),
            **{name: getattr(of, name).tolist() for name in ("log_means", "means", "width", "tail")},
        }
        names = tuple(channel.name for channel in self.reference.channels())
        kept = _Text(
            group=self.group, nights=self.nights, images=self.reference.images, channels=names, views=of.views, **arrays
        )
        return kept.model_dump_json().encode()

    @classmethod
    def parse(cls, body: bytes) -> "KeptReference":
        read = _Text.model_validate_json(body)
        assert read.channels == tuple(channel.name for channel in CHANNELS[: len(read.channels)]), read.channels
        arrays = (np.array(each, np.float64) for each in (read.log_means, read.means, read.width, read.tail))
        reference = Reference(np.array(read.values, np.float64), read.images)
        return cls(read.group, read.nights, ViewCentres(read.views, *arrays), reference)


def made(group: str, nights: Sequence[tuple[str, NightImages]]) -> KeptReference:
    """The reference of these nights, (day, images), at least REFERENCE_NIGHTS.

    A view whose scores are alike has no scale and is left out. Embeddings count if every night has LEAST_IMAGES of them, and
    they differ within every view.
    Raises VerdictError if the scores of every view are alike, or a night has no image of another view.
    """
    whole = [images for _, images in nights]
    embedded = [_among(images, None, True) for images in whole]
    if all(len(images.view) >= LEAST_IMAGES for images in embedded):
        views = _views_with_width(embedded, "score")
        if views and views == _views_with_width(embedded, "embedding"):
            return _made(group, nights, views, True)
    return _made(group, nights, _views_with_width(whole, "score"), False)


def _made(group: str, nights: Sequence[tuple[str, NightImages]], views: set[str], embedding: bool) -> KeptReference:
    days = tuple(day for day, _ in nights)
    kept = [_among(images, views, embedding) for _, images in nights]
    if not views or not all(len(images.view) for images in kept):
        rule = "different between the images of some view that every reference night has"
        raise VerdictError(f"score must be {rule}; got {len(views)} such view(s). Check the scores of these nights.")
    found = centres(kept)
    values = np.stack([night_channels(images, found) for images in kept])
    return KeptReference(group, days, found, Reference(values, int(np.median([len(images.view) for images in kept]))))


def _views_with_width(nights: Sequence[NightImages], name: str) -> set[str]:
    """The views whose 90 % and 50 % points differ."""
    view = np.concatenate([np.asarray(night.view, dtype=str) for night in nights])
    values = np.concatenate([np.asarray(getattr(night, name), np.float64) for night in nights])
    of_view = ((str(each), values[view == each]) for each in np.unique(view))
    return {each for each, mine in of_view if np.quantile(mine, 0.9) > np.quantile(mine, 0.5)}


def _among(images: NightImages, views: Sequence[str] | set[str] | None, embedding: bool) -> NightImages:
    """The images of these views, None for all; embedding: only those that have one, else none is kept."""
    view: Any = np.asarray(
        images.view, dtype=str
    )  # an array is a sequence of str to numpy, and takes a tenth of a list's memory
    mine = np.ones(len(view), bool) if views is None else np.isin(view, sorted(views))
    if embedding:
        mine &= np.zeros(len(view), bool) if images.embedding is None else np.isfinite(images.embedding)
    return NightImages(
        view[mine],
        images.brightness[mine],
        images.contrast[mine],
        images.sharpness[mine],
        images.size_px[mine],
        images.score[mine],
        images.embedding[mine] if embedding and images.embedding is not None else None,
    )
