"""What `flowscore doctor` says of the verdicts of a model: the rule in force, who decided it, and the lots of the last day."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from jobs.examined.finding import Finding
from pipeline.report.verdict_facts import last_day
from pipeline.state.entries import Judging, read_entry
from pipeline.state.ledger import Ledger
from pipeline.state.plan import read_state
from pipeline.state.publications import Publications
from pipeline.tables.query import NoTables, open_tables
from pipeline.tables.rejudge import in_force


def verdicts(ledger: Ledger) -> Iterator[Finding]:
    """One line: the rule for the newest version of the model that has a calibration there, or that nothing is judged."""
    head = read_state(ledger)[1]
    rules = {of.digest: of for of in head.judged if of.rule.calibration is not None}
    digest = next((promoted.digest for promoted in reversed(head.promotions) if promoted.digest in rules), None)
    if digest is None:
        fix = "To change that: `flowscore calibrate`, then `flowscore judge`."
        yield Finding("ok", "verdicts", f"{ledger.model}: nothing is judged, since the model is not calibrated there", fix)
        return
    number, rule = rules[digest].number, rules[digest].rule
    entry = read_entry(ledger, number)
    assert isinstance(entry, Judging)
    at = datetime.fromisoformat(entry.decided_at).astimezone(UTC)
    budget = "" if rule.review_budget is None else f"review budget {rule.review_budget:,}, "
    text = f"rate {rule.rate}, {budget}calibration {str(rule.calibration)[:12]}, by {entry.decided_by}, {at:%Y-%m-%d %H:%M} UTC"
    if digest != head.digest:
        text += f", for {digest[:12]}; the version that was promoted last is not calibrated there"
    if not in_force(head, Publications(ledger.output_uri).last_seal().closed(ledger.model)):
        fix = f"Repeat `flowscore score`, or `flowscore finalize --output {ledger.output_uri}`."
        yield Finding("warn", "verdicts", f"{ledger.model}: a rule is decided and not yet in the tables: {text}", fix)
        return
    yield Finding("ok", "verdicts", f"{ledger.model}: {text}; {_lots(ledger)}")


def _lots(ledger: Ledger) -> str:
    try:
        with TemporaryDirectory(prefix="flowscore-doctor-") as scratch:
            day, counts = last_day(open_tables(ledger.output_uri, Path(scratch)).connection, ledger.model)
    except NoTables:
        day, counts = None, {}
    if day is None:
        return "no lot is decided"
    said = ", ".join(f"{count:,} {state.replace('_', ' ')}" for state, count in counts.items())
    return f"lots of {day}: {said}"
