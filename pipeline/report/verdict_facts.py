"""Facts about the verdicts of one scoring run: lots, pieces and the rules in force, computed in SQL over the tables.

A piece is what shares model, day, lot and `piece`; an image without a `piece` counts as one. Lots are those of which the run
has an image. All images of a lot have decided it, and its newest revision counts.
"""

from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction

import duckdb

from models.verdicts.band import fixed_rate_bound
from models.verdicts.rates import allowed_rank, rate_of
from pipeline.report.facts import complete
from pipeline.report.night_facts import UnlikeNight, unlike_nights
from pipeline.verdicts.names import NOT_CALIBRATED
from pipeline.verdicts.rule import Rule
from schemas import errors, lots, scores
from schemas.decisions import THRESHOLD

STATES = ("hold", "watch", "not_judged", "ok")  # as a person takes them up
LOTS = 50
REASONS = 20

NEWEST = "select * from {} qualify row_number() over (partition by model, model_digest, date, lot order by revision desc) = 1"


@dataclass(frozen=True)
class InForce:
    """The rule by which the rows of one version of a model are judged; its last decision.

    review_budget: pieces a night, which flag instead of the rate; None without one.
    """

    model_digest: str
    calibration_digest: str | None
    rate: str
    review_budget: int | None
    decided_by: str
    decided_at: datetime


@dataclass(frozen=True)
class Promise:
    """What a rate says of good pieces that are compared with n others.

    judged: complete pieces that were judged.  on_average, at_95: share of good ones that is flagged at most, over calibrations,
    and for 95 of 100 calibrations.  by_chance: of the judged ones on average, if all are good.
    """

    rate: Fraction
    n: int
    judged: int
    on_average: Fraction
    at_95: float
    by_chance: Fraction


@dataclass(frozen=True)
class NotJudged:
    """Pieces and images without a verdict, by reason."""

    reason: str
    pieces: int
    images: int


@dataclass(frozen=True)
class LotVerdict:
    """The newest revision of a lot; as columns of the table `lots`."""

    lot: str
    date: str
    revision: int
    state: str
    reason: str | None
    planned: int
    unreadable: int
    pieces: int
    flagged: int


@dataclass(frozen=True)
class Verdicts:
    """Of one scoring run.

    flagged, incomplete: pieces that are flagged, and those of them with images missing.  judged: complete pieces, judged.
    promises: of rules without a review budget, by rate and number of calibration pieces.
    not_judged: the most frequent reasons first, REASONS at most.  not_judged_pieces: all of them.
    lots: by state, LOTS at most, the most unusual first.  lot_counts: all of them, by state.
    nights: that are watched or suspended, the latest first.
    calibrations: digests by which the rows were judged, by model digest.
    """

    rules: tuple[InForce, ...]
    flagged: int
    incomplete: int
    judged: int
    promises: tuple[Promise, ...]
    not_judged: tuple[NotJudged, ...]
    not_judged_pieces: int
    lots: dict[str, tuple[LotVerdict, ...]]
    lot_counts: dict[str, int]
    nights: tuple[UnlikeNight, ...]
    calibrations: dict[str, str | None]

    @property
    def has_any(self) -> bool:
        """Whether a piece was judged."""
        return bool(self.judged or self.flagged)

    @property
    def calibrated(self) -> bool:
        return any(self.calibrations.values())

    @property
    def by_chance(self) -> Fraction:
        """Flagged pieces on average, at most, if all that were judged are good."""
        return sum((promise.by_chance for promise in self.promises), Fraction(0))


@dataclass(frozen=True)
class _Group:
    """Pieces with the same columns."""

    model_digest: str
    n: int | None
    verdict: str
    reason: str | None
    pieces: int
    images: int


def verdicts(connection: duckdb.DuckDBPyConnection, run_id: str, model: str) -> Verdicts:
    """What the tables say of the run's pieces and lots."""
    rules = {rule.model_digest: rule for rule in rules_in_force(connection, model)}
    groups = _groups(connection, run_id)
    flagged = [group for group in groups if group.verdict == "flagged"]
    judged = [group for group in groups if group.verdict != "not_judged" and group.reason is None]
    counts: dict[tuple[str, int], int] = {}
    for group in judged:
        rule = rules.get(group.model_digest)
        if rule is not None and rule.review_budget is None and group.n is not None:
            counts[rule.rate, group.n] = counts.get((rule.rate, group.n), 0) + group.pieces
    without = _not_judged(groups)
    calibrations = connection.execute(
        "select model_digest, max(calibration_digest) from scores where run_id = ? group by all", [run_id]
    ).fetchall()
    shown, lot_counts = _lots(connection, run_id)
    return Verdicts(
        rules=tuple(rules[digest] for digest, _ in sorted(calibrations) if digest in rules),
        flagged=sum(group.pieces for group in flagged),
        incomplete=sum(group.pieces for group in flagged if group.reason is not None),
        judged=sum(group.pieces for group in judged),
        promises=tuple(_promise(rate, n, count) for (rate, n), count in sorted(counts.items())),
        not_judged=tuple(without[:REASONS]),
        not_judged_pieces=sum(of.pieces for of in without),
        lots=shown,
        lot_counts=lot_counts,
        nights=tuple(unlike_nights(connection, run_id)),
        calibrations=dict(calibrations),
    )


def rules_in_force(connection: duckdb.DuckDBPyConnection, model: str) -> list[InForce]:
    """The rules of the versions of a model, by their last decisions in the tables; those of old versions too."""
    rows = connection.sql(
        "select model_digest, arg_max_null(new, entry) filter (setting = 'calibration') as calibration_digest, "
        "coalesce(arg_max(new, entry) filter (setting = 'rate'), $at_first) as rate, "
        "arg_max_null(new, entry) filter (setting = 'review_budget')::bigint as review_budget, "
        "arg_max(decided_by, entry) as decided_by, arg_max(decided_at, entry) as decided_at "
        "from decisions where model = $model and not starts_with(setting, $of_a_night) group by all order by all",
        params={"model": model, "at_first": Rule().rate, "of_a_night": THRESHOLD},
    )
    return [InForce(**row) for row in rows.to_arrow_table().to_pylist()]  # fetchall() needs pytz for times


def last_day(connection: duckdb.DuckDBPyConnection, model: str) -> tuple[str | None, dict[str, int]]:
    """The last production day with a lot that was decided, and its lots by state; (None, {}) if none was.

    A day is an ISO date, if there is one.
    """
    newest = NEWEST.format(complete(connection, "lots", lots.SCHEMA))
    rows = connection.execute(
        f"with newest as ({newest}), mine as (from newest where model = $model), "
        "last as (select coalesce(max(date) filter (try_cast(date as date) is not null), max(date)) as day from mine) "
        "select date, state, count(*) from mine join last on date = day group by all",
        {"model": model},
    ).fetchall()
    found = {state: count for _, state, count in rows}
    return (rows[0][0] if rows else None), {state: found[state] for state in STATES if state in found}


def _groups(connection: duckdb.DuckDBPyConnection, run_id: str) -> list[_Group]:
    """All pieces of a run. What is said of a piece stands on each of its images."""
    same, table = "model_digest, n_calibration, verdict, reason", complete(connection, "scores", scores.SCHEMA)
    rows = connection.execute(
        f"select {same}, sum(pieces)::bigint, sum(images)::bigint from ("
        f"select {same}, count(*) as pieces, sum(images) as images from ("
        f"select {same}, count(*) as images from {table} where run_id = $run_id and piece is not null "
        f"group by {same}, date, lot, piece) group by {same} union all "
        f"select {same}, count(*), count(*) from {table} where run_id = $run_id and piece is null group by {same}) "
        f"group by {same} order by all",
        {"run_id": run_id},
    ).fetchall()
    return [_Group(*row) for row in rows]


def _promise(rate: str, n: int, judged: int) -> Promise:
    share = rate_of(rate)
    rank = allowed_rank(share, n)
    on_average = Fraction(rank, n + 1)
    return Promise(share, n, judged, on_average, fixed_rate_bound(rank, n), judged * on_average)


def _not_judged(groups: list[_Group]) -> list[NotJudged]:
    pieces: dict[str, int] = {}
    images: dict[str, int] = {}
    for group in groups:
        if group.verdict == "not_judged":
            reason = group.reason or NOT_CALIBRATED
            pieces[reason] = pieces.get(reason, 0) + group.pieces
            images[reason] = images.get(reason, 0) + group.images
    return [NotJudged(reason, pieces[reason], images[reason]) for reason in sorted(pieces, key=lambda one: (-pieces[one], one))]


def _lots(connection: duckdb.DuckDBPyConnection, run_id: str) -> tuple[dict[str, tuple[LotVerdict, ...]], dict[str, int]]:
    """Of which the run has an image, with a score or without."""
    mine = "select model, model_digest, date, lot from {} where run_id = $run_id"
    failed, decided = complete(connection, "errors", errors.SCHEMA), complete(connection, "lots", lots.SCHEMA)
    newest = (
        f"with mine as ({mine.format('scores')} union {mine.format(failed)}), newest as ({NEWEST.format(decided)}), "
        "found as (select newest.* from newest semi join mine using (model, model_digest, date, lot)) "
    )
    counts = dict(connection.execute(f"{newest} select state, count(*) from found group by all", {"run_id": run_id}).fetchall())
    columns = ", ".join(LotVerdict.__dataclass_fields__)
    order = "lot_p nulls last, flagged desc, date desc, lot"
    rows = connection.execute(
        f"{newest} select {columns} from found qualify row_number() over (partition by state order by {order}) <= {LOTS} "
        f"order by {order}",
        {"run_id": run_id},
    ).fetchall()
    found = [LotVerdict(*row) for row in rows]
    shown = {state: tuple(lot for lot in found if lot.state == state) for state in STATES if state in counts}
    return shown, {state: counts[state] for state in STATES if state in counts}
