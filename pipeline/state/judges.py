"""Decides the rules of a ledger, keeps the calibrations that they name, and brings both back as judges."""

import functools
import logging
from datetime import UTC, datetime
from pathlib import Path

from models.artifact import CALIBRATION_FILES, ArtifactError
from models.calibration import files
from pipeline.state.entries import Head, Judging, add_entry
from pipeline.state.faults import StateError
from pipeline.state.ledger import Ledger
from pipeline.state.plan import read_state
from pipeline.verdicts.judge import Judge
from pipeline.verdicts.rule import Rule

log = logging.getLogger(__name__)


class LostCalibration(StateError, ValueError):
    """The ledger's copy of a calibration is gone or damaged."""


def judge_of(ledger: Ledger, head: Head, digest: str) -> Judge:
    """The judge of the scores of a model; one that judges nothing if no rule was decided. Raises LostCalibration."""
    rule = head.rule_of(digest)
    if rule is None or rule.calibration is None:
        return Judge(digest, rule or Rule())
    return _judge(ledger, digest, rule)


def decide(ledger: Ledger, digest: str, rule: Rule, calibration: Path | None, decided_by: str) -> bool:
    """Make this the rule for the scores of a model, if it is not already; True if it was not.

    The scores that are in the tables are judged by it at the next publication (pipeline/tables/rejudge.py).

    Args:
        calibration: folder with the files of the rule's calibration; None if the rule has none.
    """
    while True:
        head = read_state(ledger)[1]
        before = head.rule_of(digest) or Rule()
        if before == rule:
            return False
        if rule.calibration is not None:
            assert calibration is not None, "a rule with a calibration comes with its files"
            for name in CALIBRATION_FILES:
                ledger.store.put(ledger.calibration_key(rule.calibration, name), (calibration / name).read_bytes())
        now = datetime.now(UTC).isoformat(timespec="seconds")
        entry = Judging(digest=digest, rule=rule, before=before, decided_by=decided_by, decided_at=now)
        if add_entry(ledger, head, entry):
            return True


@functools.lru_cache(maxsize=8)
def _judge(ledger: Ledger, digest: str, rule: Rule) -> Judge:
    assert rule.calibration is not None
    keys = {name: ledger.calibration_key(rule.calibration, name) for name in CALIBRATION_FILES}
    try:
        found = files.decoded({name: ledger.store.get(key) for name, key in keys.items()})
    except ArtifactError as error:
        raise LostCalibration(f"{error} It is the copy below {ledger.prefix}/calibrations/{rule.calibration}") from error
    return Judge(digest, rule, found)
