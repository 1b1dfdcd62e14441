"""The ledgers that a command is about: that of a model, or all under an output."""

from jobs.command.errors import UsageError
from pipeline.state.ledger import Ledger, ledgers
from pipeline.storage.store import open_store


def scored_ledgers(output: str, model: str | None) -> list[Ledger]:
    """That of the model, or every one; at least one. Raises UsageError, OtherLayout."""
    known = ledgers(open_store(output).uri)
    chosen = [ledger for ledger in known if model in (None, ledger.model)]
    if not chosen:
        names = ", ".join(ledger.model for ledger in known)
        fix = f"Models there: {names}." if known else "Nothing was scored into it; `flowscore score` does."
        raise UsageError("--model" if known else "--output", "that of a scoring run", model or output, fix)
    return chosen
