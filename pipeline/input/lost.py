"""Objects that were planned and cannot be read any more: their faults, in the words of every source."""

from pipeline.input.encoded_rows import Fault
from pipeline.input.unread import NotRead
from pipeline.storage.objects import Archived, Changed, Gone, Refused
from schemas.tally import WORKER_DIED

LOST = (Gone, Changed, Refused, NotRead)  # one object is at fault; every other error of storage leaves its unit open


def lost(error: Gone | Changed | Refused | NotRead, what: str, byte_offset: int | None = None) -> Fault:
    """The fault of an object.

    Args:
        what: `object` or `shard`.
        byte_offset: everything from there on is lost; None for the whole object.
    """
    if isinstance(error, Archived):
        code, why = "archived", f"the {what} is in an archive storage class. Restore it, then score with --retry-errors"
    elif isinstance(error, Refused):
        fix = "Allow this account to read it (ACL, policy, encryption key, file mode), then score with --retry-errors"
        code, why = "refused", f"storage lists the {what} but does not deliver it ({error}). {fix}"
    elif isinstance(error, NotRead):
        code, why = WORKER_DIED, f"reading the {what} or its neighbours ended a worker again and again, so it is not read"
    elif isinstance(error, Gone):
        code, why = "gone", f"the {what} was deleted since the run was planned"
    else:
        code, why = "changed", f"the {what} was changed since the run was planned; the next run plans its new content"
    if byte_offset is not None:
        why += f"; everything from byte {byte_offset} on is lost"
    return Fault(code, why, byte_offset)
