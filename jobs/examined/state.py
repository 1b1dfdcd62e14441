"""What `flowscore doctor` says of the state under an output: publications, and for each model what is scored, waits, judges."""

import json
from collections.abc import Iterator

from jobs.examined.finding import Finding
from jobs.examined.verdicts import verdicts
from pipeline.state.lease import epochs
from pipeline.state.ledger import Ledger, OtherLayout, ledgers
from pipeline.state.plan import read_state
from pipeline.state.publications import Publications
from pipeline.state.tally import read_tally
from pipeline.state.unclosed import unclosed
from pipeline.storage.objects import StorageError
from pipeline.tables.held import accept, look, named, reasons_of


def state(uri: str) -> Iterator[Finding]:
    """Says what every model has scored there, what waits and why, by which rule it judges, and what is not complete."""
    try:
        yield from _publications(uri)
        for ledger in ledgers(uri):
            yield from _ledger(ledger)
            yield from verdicts(ledger)
    except (StorageError, OtherLayout) as error:
        yield Finding("fail", "state", str(error), "Check the output's address and credentials.")


def _publications(uri: str) -> Iterator[Finding]:
    publications = Publications(uri)
    seal, written = publications.last_seal(), publications.manifests.newest()
    when = f", the last at {seal.sealed_at}" if seal.number else ""
    if written > seal.number:
        fix = "Any `flowscore score` or `flowscore finalize` completes it; nobody sees half of it meanwhile."
        yield Finding("warn", "tables", f"publication {written} is written and not complete; {seal.number} are{when}", fix)
    else:
        yield Finding("ok", "tables", f"{seal.number} publications{when}")


def _ledger(ledger: Ledger) -> Iterator[Finding]:
    head = read_state(ledger)[1]
    closed = Publications(ledger.output_uri).last_seal().closed(ledger.model)
    models = ", ".join(f"{each.digest[:12]} from {each.from_day or 'entry ' + str(each.number)}" for each in head.promotions)
    last = f", last day {head.last_day}" if head.last_day else ""
    yield Finding("ok", "model", f"{ledger.model}: published up to slice {closed.through}{last}; scored by {models or 'none'}")
    if head.rekeyed > closed.rekeyed:
        text = f"{ledger.model}: a rekey to {head.key_pattern} was stopped; rows still have the columns of the pattern before"
        yield Finding("warn", "model", text, "Repeat `flowscore rekey`, or let the next `flowscore score` finish it.")
    for number in unclosed(ledger, closed):
        tally = read_tally(ledger, number)
        if tally is None:
            text = f"{ledger.model}: slice {number} has work units that are not scored; {_driver(ledger)}"
            yield Finding("warn", "model", text, "Repeat `flowscore score`; it goes on where it stopped.")
        else:
            counts = f"{tally.scored:,} scored, errors: {'; '.join(named(reasons_of(tally))) or 'none'}"
            text = f"{ledger.model}: slice {number} is scored and not published: {counts}"
            fix = "`flowscore finalize --output` publishes it, and so does the next `flowscore score`."
            if tally.quarantined:
                fix = (
                    f"Look at the errors: {look(ledger, number)}\n"
                    f"Then mend the images and repeat `flowscore score`, or accept the errors: {accept(ledger, number)}"
                )
            yield Finding("warn", "model", text, fix)


def _driver(ledger: Ledger) -> str:
    epoch = epochs(ledger).newest()
    if not epoch:
        return "no driver yet"
    holder = json.loads(epochs(ledger).get(epoch))
    return f"driver {epoch} was process {holder['pid']} on {holder['host']}"
