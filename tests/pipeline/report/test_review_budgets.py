from datetime import UTC, datetime

import pytest
from fake_run import DIGEST
from judged_ledger import calibration, publish, put_rule

from models.artifact import ArtifactError
from pipeline.report.night_facts import NightThreshold
from pipeline.report.review_budgets import worths
from pipeline.report.verdict_facts import InForce
from pipeline.state.ledger import Ledger

RULE = InForce(DIGEST, "c" * 64, "0.05", 3, "a test", datetime(2026, 1, 1, tzinfo=UTC))
NIGHT = NightThreshold(DIGEST, "2026-05-04", 9.0)


def test_a_threshold_is_worth_what_the_kept_calibration_says(tmp_path):
    output = tmp_path / "out"
    publish(output, [])
    put_rule(output, calibration(), review_budget=3)
    ledger = Ledger(str(output), "tiles")
    (said,) = worths(ledger, [RULE], [NIGHT, NightThreshold("e" * 64, "2026-05-04", 9.0)])
    assert said.startswith("2026-05-04: 3 pieces to review: 0 of 100 good pieces score as high, so that at most ")
    assert worths(ledger, [RULE], []) == [] == worths(ledger, [], [NIGHT])
    ledger.store.put(ledger.calibration_key("c" * 64, "calibration.json"), b"{}")
    with pytest.raises(ArtifactError):
        worths(ledger, [RULE], [NIGHT])
