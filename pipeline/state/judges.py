"""Decides the rules of a ledger, keeps the calibrations that they name, and brings both back as judges."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from models.artifact import CALIBRATION_FILES, ArtifactError
from models.calibration import files
from pipeline.state.entries import Head, Judging, add_entry
from pipeline.state.faults import StateError
from pipeline.state.ledger import Ledger
from pipeline.state.plan import read_state
from pipeline.storage.objects import Gone
from pipeline.verdicts.judge import Judge
from pipeline.verdicts.rule import Rule


class LostCalibration(StateError, ValueError):
    """The ledger's copy of a calibration is gone or damaged."""


def judge_of(ledger: Ledger, head: Head, digest: str) -> Judge:
    """The judge of the scores of a model; one that judges nothing if no rule was decided. Raises LostCalibration."""
    rule = head.rule_of(digest)
    if rule is None or rule.calibration is None:
        return Judge(digest, rule or Rule())
    return _judge(ledger, digest, rule)


@dataclass(frozen=True)
class Ruling:
    """What a command decides of the scores of a model.

    calibration: digest of the one in the model's folder; None if it has none: then the ledger keeps its own.
    directory: the model's folder.  settings: fields of Rule that the command sets; the others stay as they are.
    """

    digest: str
    calibration: str | None
    directory: Path
    settings: Mapping[str, Any] = field(default_factory=dict)
    decided_by: str = "unknown"

    def rule(self, before: Rule) -> Rule:
        """The rule that it makes of the one before."""
        wanted = {**before.model_dump(), **self.settings}
        return Rule(**wanted | {"calibration": self.calibration or before.calibration})


def decide(ledger: Ledger, ruling: Ruling) -> Rule | None:
    """Add the rule as an entry, if it is not the ledger's already; None if it is. A retrained model goes on with the rate and
    the other settings of the version before it, and has its own calibration.

    The scores that are in the tables are judged by it at the next publication (pipeline/tables/rejudge.py).
    """
    while True:
        head = read_state(ledger)[1]
        known = head.rule_of(ruling.digest)
        before = known or Rule()
        rule = ruling.rule(known or head.first_rule())
        if rule == before:
            return None
        if rule.calibration is not None and rule.calibration != before.calibration:
            for name in CALIBRATION_FILES:
                ledger.store.put(ledger.calibration_key(rule.calibration, name), (ruling.directory / name).read_bytes())
        now = datetime.now(UTC).isoformat(timespec="seconds")
        entry = Judging(digest=ruling.digest, rule=rule, before=before, decided_by=ruling.decided_by, decided_at=now)
        if add_entry(ledger, head, entry):
            return rule


@functools.lru_cache(maxsize=8)
def _judge(ledger: Ledger, digest: str, rule: Rule) -> Judge:
    assert rule.calibration is not None
    keys = {name: ledger.calibration_key(rule.calibration, name) for name in CALIBRATION_FILES}
    try:
        found = files.decoded({name: ledger.store.get(key) for name, key in keys.items()})
    except (ArtifactError, Gone) as error:
        copy = f"{ledger.prefix}/calibrations/{rule.calibration}"
        raise LostCalibration(f"the copy of a calibration below {copy} must be as it was put there; {error}") from error
    return Judge(digest, rule, found)
