"""Which sealed slices of a ledger are not in the tables."""

from pipeline.state.entries import is_slice
from pipeline.state.ledger import Ledger
from pipeline.state.publications import Closed


def unclosed(ledger: Ledger, closed: Closed) -> list[int]:
    """Numbers of the slices that no publication has closed, ascending. closed: by the newest seal."""
    newer = range(closed.through + 1, ledger.entries.newest() + 1)
    return [*closed.still_open, *(number for number in newer if is_slice(ledger, number))]
