"""The drift chart of one group over its nights: the first are the reference, the others are compared with it one by one."""

import json
import logging
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from models.faults import VerdictError
from models.verdicts.cusum import Cusum
from models.verdicts.drift import Carried, judge, start
from models.verdicts.night_channels import NightImages
from pipeline.verdicts.charted_night import ChartedNight, Measured, Numbers, State
from pipeline.verdicts.drift_reference import LEAST_IMAGES, REFERENCE_NIGHTS, KeptReference, made

log = logging.getLogger(__name__)


class GroupChart:
    """A group's chart under one calibration.

    Args:
        before: the nights that are charted already.
        kept: their reference, if one was kept.
        keep: keeps a reference, unless somebody has kept another meanwhile; returns the one that is kept.
    """

    def __init__(
        self,
        group: str,
        before: Iterable[ChartedNight],
        kept: KeptReference | None,
        keep: Callable[[KeptReference], KeptReference],
    ):
        self.group, self.kept, self._keep = group, kept, keep
        self._nights = {night.date: night for night in before}
        self._judged = sorted(night.date for night in self._nights.values() if night.carried is not None)
        self._images: dict[str, NightImages] = {}  # of reference nights, until there are enough

    def reference_nights(self) -> dict[str, int]:
        """The number of images of the nights that are charted as reference nights, by day."""
        return {night.date: night.images for night in self._nights.values() if night.state == "reference"}

    def remember(self, date: str, images: NightImages) -> None:
        """Take the images of a reference night that was charted before; all such come before the first new night."""
        self._images[date] = images

    def chart(self, date: str, images: NightImages) -> ChartedNight | None:
        """Chart a new night; new ones come in the order of days. None if it has too few images to be charted.

        A night goes on from the one before it by day. One that comes late changes no later night that is charted.
        """
        assert date not in self._nights, f"{date} is charted already"
        night = self._referred(date, images)
        if night is None and self.kept is not None:
            night = self._compared(date, images, self.kept)
        if night is not None:
            self._nights[date] = night
        return night

    def _referred(self, date: str, images: NightImages) -> ChartedNight | None:
        """The night as a reference night, if it is one."""
        if len(images.view) < LEAST_IMAGES:
            return None
        if self.kept is None:
            self._images[date] = images
            if len(self._images) >= REFERENCE_NIGHTS:
                self._complete()
        if self.kept is not None and date not in self.kept.nights:
            return None
        number = len(self.reference_nights()) + 1
        says = f"reference night {number}: {REFERENCE_NIGHTS} such nights are what later ones are compared with"
        return ChartedNight(date, "reference", len(images.view), says)

    def _complete(self) -> None:
        """Make the reference of the nights that are there, and keep it."""
        try:
            found = made(self.group, sorted(self._images.items())[-REFERENCE_NIGHTS:])
        except VerdictError as error:
            log.warning("drift of %s: its nights make no reference yet. %s", self.group, error)
        else:
            self.kept = self._keep(found)
            self._images.clear()

    def _compared(self, date: str, images: NightImages, kept: KeptReference) -> ChartedNight | None:
        comparable = kept.comparable(images)
        count = len(comparable.view)
        if count < kept.least_images:
            return None
        reference = kept.of_night(count)
        at = bisect_left(self._judged, date)
        before = self._nights[self._judged[at - 1]] if at else None
        carried = start(reference) if before is None or before.carried is None else _carried(before.carried)
        values = kept.channels(comparable)
        after, found = judge(reference, carried, values)
        insort(self._judged, date)
        alarmed = tuple(channel.name for channel, over in zip(reference.channels(), found.charted.over, strict=True) if over)
        measured = Measured(_numbers(values), _numbers(found.charted.distance), _numbers(reference.limits()), alarmed)
        since = None
        if found.state != "ok":
            since = date if before is None or before.since is None else before.since
        state: State = "suspended" if found.state == "suspended" else "watch" if found.state == "watch" else "ok"
        return ChartedNight(date, state, count, found.sentence, found.sources, since, measured, _text(after))


def _numbers(values: NDArray[np.float64]) -> Numbers:
    return tuple(map(float, values))


def _text(carried: Carried) -> str:
    sums = {name: values.tolist() for name, values in carried.cusum._asdict().items()}
    return json.dumps({"over": carried.over, **sums})


def _carried(text: str) -> Carried:
    read = json.loads(text)
    high, low = (np.array(read[name], np.float64) for name in ("high", "low"))
    nights_high, nights_low = (np.array(read[name], np.int64) for name in ("nights_high", "nights_low"))
    return Carried(read["over"], Cusum(high, low, nights_high, nights_low))
