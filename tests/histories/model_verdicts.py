"""The verdicts, lots and decisions that the tables must have of a model, from one publication to the next."""

import functools
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from judged_rows import OF_LOT, Image, Law, Ranked, decided
from made_calibrations import KNOWN
from path_keys import keys_of
from stand_in import Row

from models.calibration.lot_decision import LotDecision
from pipeline.state.entries import Judging, read_entry
from pipeline.state.ledger import Ledger

Place = tuple[str, str, str]
"""Digest of the model, day and lot."""
Night = tuple[str, str]
"""Digest of the model, and day."""
DIFFERENT = tuple(at for at, name in enumerate(OF_LOT) if name not in ("revision", "entry"))
ENTRY = OF_LOT.index("entry")
NO_IMAGE = (0, 0, 0, LotDecision(0, "not_judged", "no image of it is left"))


@dataclass(frozen=True)
class OfModel:
    """pattern: key pattern of the rows.  laws: in force, by model digest.  stale: other keys wait for their verdicts.
    verdicts: VERDICT by image_id, of images that a calibrated model scored.  lots: all rows, OF_LOT and the model.
    newest: of each lot.  decisions: rows.  noted: number of the last entry that is in them.
    thresholds: with a review budget, by model digest and night.
    """

    pattern: str | None = None
    laws: Mapping[str, Law] = field(default_factory=dict)
    stale: bool = False
    verdicts: Mapping[str, tuple] = field(default_factory=dict)
    lots: tuple[tuple, ...] = ()
    newest: Mapping[Place, tuple] = field(default_factory=dict)
    decisions: tuple[tuple, ...] = ()
    noted: int = 0
    thresholds: Mapping[Night, float] = field(default_factory=dict)


_entry = functools.lru_cache(maxsize=4096)(read_entry)


def decided_by(ledger: Ledger, last: int) -> dict[str, Law]:
    """The rules that hold after the entry of that number, by model digest."""
    found = {}
    for number in range(1, last + 1):
        entry = _entry(ledger, number)
        if isinstance(entry, Judging):
            of = entry.rule.calibration
            found[entry.digest] = Law(number, entry.digest, entry.rule, None if of is None else KNOWN[of])
    return found


def noted(of: OfModel, ledger: Ledger, last: int) -> OfModel:
    """With the decisions up to that entry: a row for each setting that changed."""
    rows = []
    for number in range(of.noted + 1, last + 1):
        entry = _entry(ledger, number)
        if isinstance(entry, Judging):
            for name in type(entry.rule).model_fields:
                old, new = getattr(entry.before, name), getattr(entry.rule, name)
                if old != new:
                    texts = (None if value is None else str(value) for value in (old, new))
                    rows.append((ledger.model, entry.digest, number, name, *texts, entry.decided_by))
    return replace(of, decisions=(*of.decisions, *rows), noted=max(of.noted, last))


def rejudged(of: OfModel, model: str, rows: Iterable[Row]) -> OfModel:
    """All verdicts decided anew, a revision of each lot whose decision is another one, and thresholds of new nights."""
    verdicts: dict[str, tuple] = {}
    newest, new = dict(of.newest), []
    ranked: dict[Night, list[Ranked]] = defaultdict(list)
    places = _by_place(of, rows)
    gone = [place for place in newest if place not in places and _calibrated(of, place[0])]
    for place, images in places.items():
        digest, date, lot = place
        found = decided(images, lot is not None, of.laws[digest])
        verdicts |= found.images
        ranked[digest, date] += found.ranked
        if lot is not None:
            new += _revision(of, (digest, date, lot), found.lot, newest)
    for place in gone:
        new += _revision(of, place, NO_IMAGE, newest)
    lots = (*of.lots, *((*row, model) for row in new))
    of = _with_thresholds(of, model, ranked)
    for night in ranked.keys() & of.thresholds.keys():
        for piece in ranked[night]:
            flagged = piece.score > np.float32(of.thresholds[night])
            verdict = "flagged" if flagged else "ok" if piece.counts else "not_judged"
            verdicts |= {image: (*verdicts[image][:-2], verdict, verdicts[image][-1]) for image in piece.images}
    return replace(of, verdicts=verdicts, newest=newest, lots=lots)


def _with_thresholds(of: OfModel, model: str, ranked: Mapping[Night, list[Ranked]]) -> OfModel:
    """A night gets its threshold once under a rule with a review budget: so many pieces score above it."""
    found, rows = dict(of.thresholds), []
    for (digest, date), pieces in ranked.items():
        law = of.laws[digest]
        budget = law.rule.review_budget
        if budget is not None and (digest, date) not in found:
            falling = sorted((float(piece.score) for piece in pieces), reverse=True)
            found[digest, date] = falling[budget] if len(falling) > budget else -math.inf
            threshold = repr(found[digest, date])
            rows.append((model, digest, law.entry, f"threshold of {date}", None, threshold, "review_budget"))
    return replace(of, thresholds=found, decisions=(*of.decisions, *rows))


def ruled(of: OfModel, laws: Mapping[str, Law]) -> OfModel:
    """Under these rules. A threshold holds for the rule under which it was found."""
    same = {digest for digest, law in laws.items() if digest in of.laws and of.laws[digest].entry == law.entry}
    thresholds = {night: threshold for night, threshold in of.thresholds.items() if night[0] in same}
    return replace(of, laws=laws, stale=False, thresholds=thresholds)


def _calibrated(of: OfModel, digest: str) -> bool:
    return digest in of.laws and of.laws[digest].calibration is not None


def _by_place(of: OfModel, rows: Iterable[Row]) -> dict[tuple[str, str, str | None], tuple[Image, ...]]:
    found = defaultdict(list)
    for row in rows:
        if _calibrated(of, row.digest):
            image = _image(of.pattern, row)
            found[row.digest, row.date, image.key("lot")].append(image)
    return {place: tuple(sorted(images)) for place, images in found.items()}


@functools.lru_cache(maxsize=65_536)
def _image(pattern: str | None, row: Row) -> Image:
    keys = tuple(sorted(keys_of(pattern, row.uri, row.member).items()))
    return Image(row.run_id, row.uri, row.member or "", row.image_id, keys, row.score)


def _revision(of: OfModel, place: Place, found: tuple[int, int, int, LotDecision], newest: dict[Place, tuple]) -> list[tuple]:
    """The next row of a lot, if it says something else than its last one; OF_LOT."""
    digest, date, lot = place
    (planned, unreadable, flagged, decision), law = found, of.laws[digest]
    before = newest.get(place)
    row = (
        *(lot, date, 0 if before is None else before[OF_LOT.index("revision")] + 1, None),
        *(planned, planned - unreadable, unreadable, decision.judged, flagged, decision.hold_limit, decision.min_flaggable),
        *(decision.lot_p, decision.shift_p, decision.defects_at_least, decision.basis, law.rule.rate, decision.state),
        *(decision.reason, digest, law.rule.calibration, law.entry),
    )
    if before is not None and all(row[at] == before[at] for at in DIFFERENT):
        return []
    newest[place] = row
    return [row]
