"""What the thresholds of review budgets were worth, by the calibrations that the ledger keeps."""

from collections.abc import Iterable

from models.artifact import CALIBRATION_FILES
from models.calibration import files
from pipeline.report.night_facts import NightThreshold
from pipeline.report.verdict_facts import InForce
from pipeline.state.ledger import Ledger
from pipeline.verdicts.judge import Judge
from pipeline.verdicts.review_budget import worth
from pipeline.verdicts.rule import Rule


def worths(ledger: Ledger, rules: Iterable[InForce], nights: Iterable[NightThreshold]) -> list[str]:
    """A sentence for each night.

    Raises:
        ArtifactError: a calibration in the ledger is damaged.  StorageError: it is gone, or storage does not answer.
    """
    judges = {rule.model_digest: _judge(ledger, rule) for rule in rules if rule.review_budget is not None}
    return [worth(judges[of.model_digest], of.night, of.threshold) for of in nights if of.model_digest in judges]


def _judge(ledger: Ledger, rule: InForce) -> Judge:
    found = None
    if rule.calibration_digest is not None:
        keys = {name: ledger.calibration_key(rule.calibration_digest, name) for name in CALIBRATION_FILES}
        found = files.decoded({name: ledger.store.get(key) for name, key in keys.items()})
    return Judge(rule.model_digest, Rule(rate=rule.rate, review_budget=rule.review_budget), found)
