"""An analyst reads the tables ten times a second while runs are killed in the middle of publishing and then repeated."""

import random
import threading

import pytest
from fault_proxy import Fault
from points import Point

from pipeline.tables.query import NoTables, open_tables

EVERY_S = 0.1
KILLS = 8
QUESTIONS = {
    "images": "select count(*) from scores",
    "doubled images": "select count(*) - count(distinct image_id) from scores",
    "models": "select count(distinct model_digest) from scores",
    "maps without their score, or doubled": "select count(*) - count(distinct image_id) from maps",
    "errors": "select count(*) from errors",
}


class Analyst(threading.Thread):
    """Reads until it is told to stop; `seen` holds every set of answers once."""

    def __init__(self, output: str) -> None:
        super().__init__(name="analyst")
        self.seen: set[tuple[int, ...]] = set()
        self.reads = 0
        self._output, self._stop_reading = output, threading.Event()

    def run(self) -> None:
        while not self._stop_reading.wait(EVERY_S):
            try:
                tables = open_tables(self._output).connection
            except NoTables:
                continue
            self.seen.add(tuple(tables.execute(question).fetchall()[0][0] for question in QUESTIONS.values()))
            self.reads += 1

    def stop(self) -> None:
        self._stop_reading.set()
        self.join()


@pytest.mark.slow
@pytest.mark.parametrize("scenario", ["first", "later"])
def test_an_analyst_never_sees_part_of_a_run(laboratory, scenario):
    whole = laboratory.whole[scenario]
    publishing = [request.number for request in whole.requests if "/_delta_log/" in request.key and request.method == "PUT"]
    rng = random.Random(scenario)
    rows = {
        name: {0, len(whole.rows[name])} if scenario == "first" else {laboratory.before[name], len(whole.rows[name])}
        for name in ("scores", "errors")
    }
    reads = 0
    for at in rng.sample(range(publishing[0], whole.requests[-1].number), KILLS):
        output = laboratory.new_output(scenario, f"analyst-{scenario}-{at}")
        analyst = Analyst(output)
        analyst.start()
        try:
            outcome = laboratory.experiment(output, Point(scenario, Fault(rng.choice(("kill_before", "kill_after")), at), None))
        finally:
            analyst.stop()
        assert not outcome.faults, outcome.faults
        for answers in analyst.seen:
            said = dict(zip(QUESTIONS, answers, strict=True))
            assert said["images"] in rows["scores"] and said["errors"] in rows["errors"], said
            assert said["doubled images"] == said["maps without their score, or doubled"] == 0, said
            assert said["models"] == (said["images"] > 0), said
        reads += analyst.reads
    print(f"{scenario}: {reads} reads during {KILLS} kills and repetitions")
    assert reads > KILLS
