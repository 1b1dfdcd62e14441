"""Facts about the nights of one scoring run: those that drift, and the thresholds of review budgets, in SQL over the tables."""

from dataclasses import dataclass

import duckdb

from schemas.decisions import THRESHOLD

NIGHTS = 7


@dataclass(frozen=True)
class NightThreshold:
    """The piece score above which a review budget flags the pieces of a night."""

    model_digest: str
    night: str
    threshold: float


@dataclass(frozen=True)
class UnlikeNight:
    """A night, or a group of its images, that is unlike the reference nights; as columns of the table `drift`."""

    date: str
    drift_group: str
    state: str
    reason: str


def night_thresholds(connection: duckdb.DuckDBPyConnection, run_id: str, model: str) -> list[NightThreshold]:
    """Those of the review budgets in force, of the run's latest nights, the latest first; NIGHTS at most."""
    rows = connection.execute(
        "with newest as (select model_digest, max(entry) as entry from decisions where model = $model group by all), "
        "fixed as (select model_digest, substr(setting, 1 + length($of_a_night)) as night, new from decisions "
        "semi join newest using (model_digest, entry) where model = $model and starts_with(setting, $of_a_night)), "
        "mine as (select distinct model_digest, date as night from scores where run_id = $run_id) "
        f"select model_digest, night, new::double from fixed semi join mine using (model_digest, night) "
        f"order by night desc, model_digest limit {NIGHTS}",
        {"model": model, "of_a_night": THRESHOLD, "run_id": run_id},
    ).fetchall()
    return [NightThreshold(*row) for row in rows]


def unlike_nights(connection: duckdb.DuckDBPyConnection, run_id: str) -> list[UnlikeNight]:
    """Those that the drift chart watches or suspends under the calibration of the rows, the latest first; NIGHTS at most."""
    columns = ", ".join(UnlikeNight.__dataclass_fields__)
    rows = connection.execute(
        f"select {columns} from drift semi join (select distinct model, model_digest, calibration_digest, date from scores "
        "where run_id = $run_id) using (model, model_digest, calibration_digest, date) "
        f"where state in ('watch', 'suspended') order by date desc, drift_group limit {NIGHTS}",
        {"run_id": run_id},
    ).fetchall()
    return [UnlikeNight(*row) for row in rows]
