from fractions import Fraction

import duckdb
import pyarrow as pa
import pytest
from fake_run import DIGEST, FIRST, MODEL, run_id
from judged_ledger import calibration, image, publish, put_rule

from pipeline.report.facts import worst_images
from pipeline.report.verdict_facts import (
    NotJudged,
    last_day,
    rules_in_force,
    verdicts,
)
from pipeline.state.ledger import Ledger
from pipeline.tables.query import open_tables
from pipeline.tables.rejudge import rejudge
from schemas import decisions, drift, errors, lots, scores

FAR = 9.0
NIGHT, NEXT = "2026-05-04", "2026-05-05"


def piece(lot, serial, top, side=0.0, **columns):
    return [image(lot, serial, top, "top", **columns), image(lot, serial, side, "side", **columns)]


def night(lot, flagged, ok, **columns):
    """Pieces of two views, of which the first ones are far from good."""
    return [row for at in range(flagged + ok) for row in piece(lot, str(at), FAR if at < flagged else 0.0, **columns)]


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    """Two nights of a calibrated model: a bad lot, a good one, one that mostly cannot be read, and pieces that lack a view."""
    output = tmp_path_factory.mktemp("judged") / "out"
    publish(output, [(NIGHT, piece("before", "1", 0.0))])
    put_rule(output, calibration(), rate="0.1")
    rejudge(Ledger(str(output), MODEL))
    half = [image("good", "90", 0.0), image("good", "91", FAR), image("good", "92", 0.0, line="9")]
    unread = [image("unread", str(at), None if at else 0.0, camera) for at in range(4) for camera in ("top", "side")]
    publish(output, [(NIGHT, night("bad", 9, 1) + night("good", 1, 20) + half), (NIGHT, unread)])
    publish(output, [(NEXT, night("late", 0, 3)), (NIGHT, piece("good", "90", 0.0)[1:])])
    return output


@pytest.fixture(scope="module")
def connection(output):
    return open_tables(str(output)).connection


@pytest.fixture(scope="module")
def found(connection):
    return verdicts(connection, run_id(FIRST + 2), MODEL)


def test_pieces_are_counted_and_not_images(found):
    assert (found.flagged, found.incomplete, found.judged) == (11, 1, 33)
    assert found.not_judged == (NotJudged("line '9' is not in the calibration", 1, 1),)
    assert found.not_judged_pieces == 1 and found.has_any and found.calibrated


def test_the_promise_is_that_of_the_rate_that_was_decided(found):
    (rule,) = found.rules
    assert (rule.model_digest, rule.calibration_digest, rule.rate, rule.decided_by) == (DIGEST, "c" * 64, "0.1", "a test")
    (promise,) = found.promises
    assert (promise.rate, promise.n, promise.judged) == (Fraction(1, 10), 100, 33)
    assert promise.on_average == Fraction(10, 101) and 0.1 < promise.at_95 < 0.17
    assert found.by_chance == 33 * Fraction(10, 101)


def test_lots_are_those_of_the_run_by_their_newest_revision(found, connection):
    assert found.lot_counts == {"hold": 1, "not_judged": 1, "ok": 1}
    (held,), (unread,), (good,) = (found.lots[state] for state in ("hold", "not_judged", "ok"))
    assert (held.lot, held.date, held.revision, held.pieces, held.flagged) == ("bad", NIGHT, 0, 10, 9)
    assert (unread.lot, unread.planned, unread.unreadable) == ("unread", 8, 6) and "could not be read" in unread.reason
    assert (good.lot, good.revision, good.pieces, good.flagged) == ("good", 1, 22, 2), "a late image has decided it again"
    late = verdicts(connection, run_id(FIRST + 3), MODEL)
    assert {lot.lot for of in late.lots.values() for lot in of} == {"late", "good"}
    assert sum(late.lot_counts.values()) == 2


def test_lots_of_the_last_day(connection, tmp_path):
    assert last_day(connection, MODEL) == (NEXT, {"ok": 1})
    assert last_day(connection, "another") == (None, {})


def test_the_most_unusual_images_come_with_what_is_said_of_their_piece(connection):
    images = worst_images(connection, run_id(FIRST + 2), 100)
    first, last = images[0], images[-1]
    assert (first.verdict, first.view, first.rank, first.n_calibration, first.score) == ("flagged", "top", 1, 100, FAR)
    assert first.piece is not None and first.piece_p == pytest.approx(1 / 101)
    assert (last.verdict, last.p_value, last.rank) == ("not_judged", None, None), "what cannot be compared comes last"


def test_a_review_budget_promises_nothing_beforehand(tmp_path):
    output = tmp_path / "out"
    publish(output, [(NIGHT, piece("before", "1", 0.0)), (NEXT, night("L1", 2, 8))])
    put_rule(output, calibration(), rate="0.01", review_budget=3)
    rejudge(Ledger(str(output), MODEL))
    found = verdicts(open_tables(str(output)).connection, run_id(FIRST), MODEL)
    (rule,) = found.rules
    assert (rule.rate, rule.review_budget, rule.decided_by) == ("0.01", 3, "a test"), "not that a budget has fixed a threshold"
    assert found.promises == () and found.by_chance == 0 and found.judged == 11 and 2 <= found.flagged <= 4


def test_without_a_calibration_nothing_is_judged(tmp_path):
    publish(tmp_path / "out", [(NIGHT, piece("L1", "1", FAR))])
    found = verdicts(open_tables(str(tmp_path / "out")).connection, run_id(FIRST), MODEL)
    assert not found.has_any and not found.calibrated and found.promises == () and found.lots == {}
    assert found.not_judged == (NotJudged("not calibrated", 2, 2),), "no piece is known"
    assert rules_in_force(open_tables(str(tmp_path / "out")).connection, MODEL) == []


def test_the_columns_of_a_lot_are_those_of_the_table(found):
    assert set(vars(found.lots["hold"][0])) <= set(lots.SCHEMA.names)


def made(lacking, **rows):
    """A connection to tables with these rows, null where they say nothing, without the columns that they lack."""
    connection = duckdb.connect()
    for module in (scores, errors, lots, drift, decisions):
        name = module.__name__.rpartition(".")[2]
        schema = pa.schema([field.with_nullable(True) for field in module.SCHEMA if field.name not in lacking.get(name, ())])
        connection.register(f"of_{name}", pa.Table.from_pylist(rows.get(name, []), schema))
        connection.execute(f"create table {name} as from of_{name}")
    return connection


def test_tables_that_an_earlier_version_has_written_are_not_judged():
    lacking = {
        "scores": ("piece", "view", "piece_p", "reason", "map_height", "map_width"),
        "errors": ("lot", "model_digest"),
        "lots": ("pieces", "hold_limit", "rate", "entry"),
    }
    connection = made(lacking, scores=[{"run_id": "tiles-000003", "verdict": "not_judged", "model_digest": "ab"}])
    found = verdicts(connection, "tiles-000003", MODEL)
    assert found.not_judged == (NotJudged("not calibrated", 1, 1),) and not found.calibrated and found.lot_counts == {}
    assert last_day(connection, MODEL) == (None, {})
