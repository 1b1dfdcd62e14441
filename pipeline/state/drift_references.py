"""Keeps the reference nights of drift charts in the ledger: one object for each group and calibration, written once.

Whoever finds it charts against it, so that no later night depends on which rows of the reference nights are there then.
"""

import hashlib

from pipeline.state.ledger import Ledger
from pipeline.storage.objects import Gone
from pipeline.verdicts.drift_reference import KeptReference


def reference_key(ledger: Ledger, digest: str, calibration: str, group: str) -> str:
    """digest: of the model.  The group's name, which may be long or hold any letter, goes in as a hash."""
    return f"{ledger.prefix}/drift/{digest}/{calibration}/{hashlib.sha256(group.encode()).hexdigest()[:32]}.json"


def read_reference(ledger: Ledger, digest: str, calibration: str, group: str) -> KeptReference | None:
    """None if there is none yet."""
    try:
        return KeptReference.parse(ledger.store.get(reference_key(ledger, digest, calibration, group)))
    except Gone:
        return None


def keep_reference(ledger: Ledger, digest: str, calibration: str, reference: KeptReference) -> KeptReference:
    """The one that is kept: this one, or what somebody else has put before."""
    key = reference_key(ledger, digest, calibration, reference.group)
    ledger.store.put_new(key, reference.text())
    return KeptReference.parse(ledger.store.get(key))
