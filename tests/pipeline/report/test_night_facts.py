import duckdb
import numpy as np
import pyarrow as pa
from fake_run import DIGEST, FIRST, MODEL, run_id
from judged_ledger import calibration, image, publish, put_rule

from pipeline.report.night_facts import THRESHOLD, UnlikeNight, night_thresholds, unlike_nights
from pipeline.state.ledger import Ledger
from pipeline.tables import decision_rows
from pipeline.tables.query import open_tables
from pipeline.tables.rejudge import rejudge
from schemas import drift, scores

NIGHT, NEXT = "2026-05-04", "2026-05-05"


def test_thresholds_of_a_review_budget_are_those_of_the_rule_in_force(tmp_path):
    output = tmp_path / "out"

    def night(count):
        return [image("L1", str(at), float(at), camera) for at in range(count) for camera in ("top", "side")]

    publish(output, [(NIGHT, night(1)), (NEXT, night(10))])
    for budget in (9, 3):
        put_rule(output, calibration(), review_budget=budget)
        rejudge(Ledger(str(output), MODEL))
    connection = open_tables(str(output)).connection
    of_next, of_night = night_thresholds(connection, run_id(FIRST), MODEL)
    assert (of_next.model_digest, of_next.night, of_night.night) == (DIGEST, NEXT, NIGHT)
    assert 0.0 < of_next.threshold < 9.0 and of_night.threshold == -np.inf
    assert night_thresholds(connection, "another", MODEL) == []


def test_the_setting_of_a_threshold_is_the_one_that_publications_write():
    assert THRESHOLD == decision_rows.THRESHOLD


def test_nights_that_drift_are_those_of_the_run_under_its_calibration():
    same = {"model": MODEL, "model_digest": "ab"}
    of_run = {"run_id": "tiles-000003", "verdict": "ok", **same, "calibration_digest": "c"}
    charted = {"drift_group": "all", **same, "calibration_digest": "c"}
    nights = [(NIGHT, "suspended", "c"), (NEXT, "watch", "c"), ("2026-05-06", "watch", "c"), (NIGHT, "watch", "old")]
    rows = [{**charted, "date": day, "state": state, "calibration_digest": by, "reason": day} for day, state, by in nights]
    fine = {**charted, "date": NIGHT, "state": "ok", "drift_group": "9", "reason": "fine"}
    connection = duckdb.connect()
    scored = [{**of_run, "date": day} for day in (NIGHT, NIGHT, NEXT)]
    for name, module, content in (("scores", scores, scored), ("drift", drift, [*rows, fine])):
        schema = pa.schema([field.with_nullable(True) for field in module.SCHEMA])
        connection.register(f"of_{name}", pa.Table.from_pylist(content, schema))
        connection.execute(f"create table {name} as from of_{name}")
    expected = [UnlikeNight(NEXT, "all", "watch", NEXT), UnlikeNight(NIGHT, "all", "suspended", NIGHT)]
    assert unlike_nights(connection, "tiles-000003") == expected
