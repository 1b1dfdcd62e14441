import fake_run
from fake_run import DIGEST, MODEL
from judged_ledger import calibration, image, publish, put_rule

from jobs.examined.verdicts import verdicts
from pipeline.state.entries import Promotion, add_entry, read_head
from pipeline.state.ledger import Ledger
from pipeline.tables.rejudge import rejudge

DAY, NEXT = "2026-05-04", "2026-05-05"


def views(lot, serial, score):
    return [image(lot, serial, score, camera) for camera in ("top", "side")]


def line(output):
    (found,) = verdicts(Ledger(str(output), MODEL))
    return found


def test_a_rule_is_said_with_who_decided_it_and_the_lots_of_the_last_day(tmp_path):
    output = tmp_path / "out"
    publish(output, [(DAY, views("L1", "1", 0.0)), (NEXT, views("L2", "1", 0.0) + views("L3", "1", 0.0))])
    before = line(output)
    assert before.level == "ok" and "nothing is judged" in before.text and "flowscore calibrate" in before.fix
    put_rule(output, calibration())
    waits = line(output)
    assert waits.level == "warn" and f"{MODEL}: a rule is decided and not yet in the tables: rate 0.05" in waits.text
    assert waits.fix == f"Repeat `flowscore score`, or `flowscore finalize --output {output}`."
    rejudge(Ledger(str(output), MODEL))
    said = line(output)
    assert said.level == "ok" and said.fix == ""
    assert said.text.startswith(f"{MODEL}: rate 0.05, calibration {'c' * 12}, by a test, 20")
    assert said.text.endswith(f" UTC; lots of {NEXT}: 2 ok")


def test_a_version_that_is_to_score_later_is_not_the_one_that_judges(tmp_path):
    output = tmp_path / "out"
    publish(output, [(DAY, views("L1", "1", 0.0))], digest="e" * 64)
    put_rule(output, calibration(digest="e" * 64), rate="1 %")
    ledger = Ledger(str(output), MODEL)
    add_entry(ledger, read_head(ledger), Promotion(digest=DIGEST, artifact=fake_run.ARTIFACT, from_day=NEXT))
    assert "for eeeeeeeeeeee; the version that was promoted last is not calibrated there" in line(output).text
