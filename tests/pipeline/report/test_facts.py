import duckdb
import pytest
from fake_run import FIRST, failed, published, run_id, scored

from pipeline.report import facts as run_report
from pipeline.report.pictures import Box
from pipeline.state.attempts import Attempt
from pipeline.state.ledger import Ledger
from pipeline.tables.query import open_tables

RUN, OTHER = run_id(FIRST), run_id(FIRST, "bolts")
TWO = [{**scored("x", 1.0)["regions"][0], "x0": x0} for x0 in (20, 10)]
CONTENT = [
    (
        "2026-01-01",
        [scored(f"a{i:02}", float(i), regions=TWO) for i in range(20)] + [failed("x"), failed("y"), failed("z", "empty")],
    ),
    ("2026-01-02", [scored("b", 40.0), failed("v", keys=[])]),
]


@pytest.fixture(scope="module")
def connection(tmp_path_factory):
    output = str(tmp_path_factory.mktemp("output"))
    ledger = Ledger(output, "tiles")
    with (
        Attempt(ledger, FIRST, iter((0.0, 0.0, 8.0, 8.0)).__next__),
        Attempt(ledger, FIRST, iter((0.0, 0.0, 12.0, 12.0)).__next__),
    ):
        pass
    published(output, CONTENT)
    published(output, [("2026-01-02", [scored("late", 30.0)])])
    published(output, [("2026-01-03", [scored("other", 5.0)])], model="bolts")
    return open_tables(output).connection


def test_choosing_a_run(connection):
    assert run_report.choose_run(connection) == OTHER
    assert run_report.choose_run(connection, model="tiles") == run_id(FIRST + 1)
    assert run_report.choose_run(connection, run_id=RUN) == RUN
    with pytest.raises(run_report.NoSuchRun, match="bolts-000003 of model bolts; tiles-000003 of model tiles; tiles-000004"):
        run_report.choose_run(connection, run_id="nope")


def test_facts_of_a_run(connection):
    facts = run_report.run_facts(connection, RUN)
    assert (facts.planned, facts.scored, facts.quarantined, facts.attempts) == (25, 21, 4, 2)
    assert facts.spent_s == 20.0 and facts.images_per_s == pytest.approx(21 / 20)
    assert facts.stage_seconds == {"read": 0.5, "decode": 1.0, "score": 2.0}
    assert facts.idle_seconds == {"waiting for images": 1.0}
    assert facts.device_shares == pytest.approx({"computing": 2 / 3, "waiting for images": 1 / 3})
    assert facts.devices == ("cpu-float32",) and facts.config["decode"]["height"] == 48
    assert facts.started_at.tzinfo is not None


def test_histogram_counts_every_score_once(connection):
    histogram = run_report.histogram(connection, RUN)
    assert sum(histogram.counts) == 21 and len(histogram.counts) == run_report.BINS
    assert (histogram.low, histogram.high) == (0.0, 40.0)
    assert histogram.counts[0] == 1 and histogram.counts[-1] == 1
    assert histogram.quantiles[0.5] == pytest.approx(10, abs=1)
    alone = run_report.histogram(connection, OTHER)
    assert sum(alone.counts) == 1, "one value only"
    assert run_report.histogram(connection, "no such run") is None


def test_worst_images_come_with_keys_and_maps(connection):
    first, second, third = run_report.worst_images(connection, RUN, 3)
    assert [image.score for image in (first, second, third)] == [40.0, 19.0, 18.0]
    assert first.keys == {"line": "7", "product": "tile"} and first.lot == "lot1" and first.date == "2026-01-02"
    assert first.map.values().shape == (6, 8)
    assert first.regions == 1 and first.boxes == (Box(1, 2, 30, 40),)
    assert third.regions == 2 and [box.x0 for box in third.boxes] == [20, 10], "by number"


def test_reasons_and_examples(connection):
    truncated, empty = run_report.reasons(connection, RUN)
    assert (truncated.error, truncated.stage, truncated.images) == ("truncated", "decode", 3)
    assert [example[0] for example in truncated.examples] == ["s3://line/v", "s3://line/x", "s3://line/y"]
    assert (empty.error, empty.images) == ("empty", 1)
    assert empty.examples[0][2] == "z ends early"


def test_days(connection):
    second, first = run_report.days(connection, RUN)
    assert (first.date, first.scored, first.quarantined, first.highest) == ("2026-01-01", 20, 3, 19.0)
    assert (second.date, second.scored, second.quarantined, second.highest) == ("2026-01-02", 1, 1, 40.0)


def test_a_column_of_another_program_is_no_key(connection):
    with duckdb.connect() as other:
        for name, more in (("scores", ", 7 as weight"), ("maps", ""), ("regions", "")):
            other.register(name, connection.sql(f"select *{more} from {name}").to_arrow_table())
        first, *_ = run_report.worst_images(other, RUN, 1)
    assert first.keys == {"line": "7", "product": "tile"}
