"""Counts what a history has led to in the tables, so that a run can say whether verdicts met all that matters."""

from collections.abc import Iterator

from judged_rows import OF_LOT, VERDICT
from model_verdicts import OfModel
from oracle import Oracle, State
from path_keys import keys_of

REASONS = {
    "of 2 views": "a view is missing",
    "a complete piece has": "too many images",
    "several calibration groups": "several groups",
    "calibration too small": "calibration too small",
    "is not in the calibration": "a value that the calibration lacks",
    "the path says no": "a key is missing",
}
"""What to call an image's reason, by words in it."""
PIECE = VERDICT.index("piece")
OF_PIECE = [VERDICT.index(name) for name in ("rank", "verdict", "reason")]
REVISION, STATE, REASON = (OF_LOT.index(name) for name in ("revision", "state", "reason"))


def covered(oracle: Oracle, last: int) -> Iterator[tuple[str, str]]:
    """What became of verdicts in the publications up to that one."""
    for number in range(1, last + 1):
        manifest, states = oracle.manifest(number), (oracle.after(number - 1), oracle.after(number))
        before, after = (state.models.get(manifest.model, OfModel()) for state in states)
        if manifest.kind == "verdicts":
            yield from _rules(before, after)
        elif manifest.kind == "slice":
            yield from _late(manifest.model, before, after, states)
        yield from (
            ("threshold", "of a night") for row in after.decisions[len(before.decisions) :] if row[-1] == "review_budget"
        )
        for row in after.lots[len(before.lots) :]:
            yield "lot", row[STATE]
            if row[REASON] == "no image of it is left":
                yield "lot", "without images"


def _rules(before: OfModel, after: OfModel) -> Iterator[tuple[str, str]]:
    if before.stale and after.verdicts:
        yield "verdicts", "after a rekey"
    for digest, law in after.laws.items():
        old = before.laws.get(digest)
        if old == law or law.calibration is None:
            continue
        if old is None or old.calibration is None:
            others = any(each.calibration is not None for each in before.laws.values())
            yield "verdicts", "of a new model" if others else "for the first time"
        elif old.calibration is not law.calibration:
            yield "verdicts", "by another calibration"
        else:
            yield "verdicts", "by another rule"


def _late(model: str, before: OfModel, after: OfModel, states: tuple[State, State]) -> Iterator[tuple[str, str]]:
    """What a slice has changed of images that it does not hold."""
    if any(row[REVISION] for row in after.lots[len(before.lots) :]):
        yield "late image", "its lot"
    old, new = ({row.image_id: row for (of, _), rows in state.rows.items() if of == model for row in rows} for state in states)
    for image, columns in after.verdicts.items():
        yield from (("reason", REASONS[words]) for words in REASONS if words in (columns[-1] or ""))
        was = before.verdicts.get(image)
        if was is not None and old[image] == new[image] and columns[PIECE] is not None:
            if [columns[at] for at in OF_PIECE] != [was[at] for at in OF_PIECE]:
                lot = keys_of(after.pattern, new[image].uri, new[image].member).get("lot")
                yield "late image", "its piece" if lot else "its piece without a lot"
