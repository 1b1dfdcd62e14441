"""The first reference that is put stays, whatever the group's name."""

import numpy as np
import pytest

from models.verdicts.night_channels import NightImages
from pipeline.state.drift_references import keep_reference, read_reference, reference_key
from pipeline.state.ledger import Ledger
from pipeline.verdicts.drift_reference import made


def reference(group, seed):
    rng = np.random.default_rng(seed)
    nights = [NightImages([""] * 30, *np.exp(rng.normal(size=(4, 30))), rng.normal(size=30)) for _ in range(20)]
    return made(group, [(f"2026-01-{1 + at:02}", night) for at, night in enumerate(nights)])


@pytest.mark.parametrize("group", ["all", "line=7, product=a/b", "name=" + 100 * "äöü"])
def test_the_first_stays(place, group):
    ledger = Ledger(place, "tiles")
    assert read_reference(ledger, "d", "c", group) is None
    first = keep_reference(ledger, "d", "c", reference(group, 0))
    second = keep_reference(ledger, "d", "c", reference(group, 1))
    assert first.text() == second.text() == read_reference(ledger, "d", "c", group).text() == reference(group, 0).text()
    assert read_reference(ledger, "d", "other", group) is None and read_reference(ledger, "d", "c", "other") is None
    assert reference_key(ledger, "d", "c", group).startswith("_flowscore/ledgers/tiles/drift/d/c/")
