"""Another calibration or rate re-decides what is there: no commit is read, nothing is scored, and what stays equal stays."""

import fake_run
import judged_ledger
import numpy as np
import pytest
from fake_run import MODEL
from judged_ledger import BY_IMAGE, calibration, files_of, image, lots, publish, put_rule, rows, verdicts
from stopped import Stopped, stop_publication

from pipeline.state.entries import Rekey, add_entry, read_head
from pipeline.state.ledger import Ledger
from pipeline.tables import publication, seen_images
from pipeline.tables.rejudge import Rejudged, rejudge
from pipeline.tables.rekey import rekey

DAY, LATER = "2026-05-04", "2026-06-01"


def night(lot, count, seed=0, shift=0.0):
    rng = np.random.default_rng(seed)
    scores = rng.normal(shift, 1, size=count).tolist()
    return [image(lot, f"{at:03}", score, view) for at, score in enumerate(scores) for view in judged_ledger.VIEWS]


@pytest.fixture
def output(tmp_path):
    place = tmp_path / "out"
    publish(place, [(DAY, night("L1", 40) + [image("L1", "m", None)]), (LATER, night("L2", 30, 1, 2.0))])
    return place


def ledger(output):
    return Ledger(str(output), MODEL)


def of(output, *names):
    return {row["uri"]: tuple(row[name] for name in names) for row in rows(output, "scores")}


def test_the_first_rule_judges_all_that_is_there(output, monkeypatch):
    put_rule(output, calibration())
    monkeypatch.setattr(seen_images, "read_commits", lambda *_: pytest.fail("a commit was read"))
    before = of(output, "score", "run_id", "unit_id", "scored_at")
    done = rejudge(ledger(output))
    assert done == Rejudged(files=2, rows=140, lots=2)
    assert of(output, "score", "run_id", "unit_id", "scored_at") == before
    assert {verdict for verdict, _ in verdicts(output).values()} == {"ok", "flagged"}
    ((first,), (second,)) = (lots(output)[DAY, "L1"], lots(output)[LATER, "L2"])
    assert (first["planned"], first["unreadable"], first["pieces"], first["state"]) == (81, 1, 40, "ok")
    assert (second["pieces"], second["state"]) == (30, "hold")
    assert rejudge(ledger(output)) == Rejudged()


def test_lots_of_which_nothing_was_readable_are_decided_too(tmp_path):
    """As by a slice that is published after the rule: there is no table `scores` yet."""
    place = tmp_path / "out"
    publish(place, [(DAY, [image("L1", "m", None)])])
    put_rule(place, calibration())
    assert rejudge(ledger(place)) == Rejudged(lots=1)
    ((lot,),) = (lots(place)[DAY, "L1"],)
    assert (lot["planned"], lot["unreadable"], lot["state"]) == (1, 1, "not_judged")


def test_it_is_what_publishing_by_the_rule_gives(output, tmp_path):
    put_rule(output, calibration())
    rejudge(ledger(output))
    other = tmp_path / "other" / "out"
    publish(other, [(DAY, [image("L0", "1", 0.0)])])
    put_rule(other, calibration())
    publish(other, [(DAY, night("L1", 40) + [image("L1", "m", None)]), (LATER, night("L2", 30, 1, 2.0))])
    names = ("verdict", "reason", "rank", "p_value", "piece_p", "q_value", "piece", "view", "calibration_group")
    mine, theirs = of(output, *names), of(other, *names)
    assert {uri: theirs[uri] for uri in mine} == mine


def test_another_rate_is_a_decision_and_changes_what_it_must(output):
    put_rule(output, calibration())
    rejudge(ledger(output))
    flagged = {name for name, (verdict, _) in verdicts(output).items() if verdict == "flagged"}
    assert put_rule(output, calibration(), rate="0.2")
    assert not put_rule(output, calibration(), rate="0.2"), "the same rule is no decision"
    rejudge(ledger(output))
    more = {name for name, (verdict, _) in verdicts(output).items() if verdict == "flagged"}
    assert flagged < more
    assert [row["rate"] for row in lots(output)[DAY, "L1"]] == ["0.05", "0.2"]
    decided = sorted(rows(output, "decisions"), key=lambda row: (row["entry"], row["setting"]))
    assert [(row["setting"], row["old"], row["new"]) for row in decided] == [
        ("calibration", None, "c" * 64),
        ("rate", "0.05", "0.2"),
    ]
    assert {(row["decided_by"], row["model"], row["model_digest"]) for row in decided} == {("a test", MODEL, fake_run.DIGEST)}


def test_files_whose_verdicts_stay_are_not_written_again(output):
    put_rule(output, calibration())
    rejudge(ledger(output))
    files = files_of(output, "scores")
    put_rule(output, calibration(), most_needed=10_000)
    assert rejudge(ledger(output)) == Rejudged()
    assert files_of(output, "scores") == files
    assert [row["revision"] for row in lots(output)[DAY, "L1"]] == [0], "the same decision is no revision"
    assert len(rows(output, "decisions")) == 2


def test_rules_that_are_in_force_cost_no_look_at_tables(output, monkeypatch):
    put_rule(output, calibration())
    rejudge(ledger(output))
    monkeypatch.setattr(publication, "open_table", lambda *_: pytest.fail("a table was loaded"))
    assert rejudge(ledger(output)) == Rejudged()


def test_another_calibration_of_other_pieces(output):
    put_rule(output, calibration())
    rejudge(ledger(output))
    put_rule(output, calibration(BY_IMAGE, seed=5), digest="e" * 64)
    rejudge(ledger(output))
    assert {row["calibration_digest"] for row in rows(output, "scores")} == {"e" * 64}
    assert {row["piece"] for row in rows(output, "scores")} == {None}
    assert [row["pieces"] for row in lots(output)[DAY, "L1"]] == [40, 80]


def test_images_of_another_model_keep_their_verdicts(output):
    put_rule(output, calibration())
    rejudge(ledger(output))
    publish(output, [(LATER, night("L3", 5))], digest="f" * 64)
    before = of(output, "verdict", "reason", "model_digest")
    put_rule(output, calibration(seed=7, digest="f" * 64), digest="a" * 64)
    rejudge(ledger(output))
    after = of(output, "verdict", "reason", "model_digest")
    changed = {after[uri][2] for uri in after if after[uri] != before[uri]}
    assert changed == {"f" * 64}
    assert lots(output)[LATER, "L3"][-1]["model_digest"] == "f" * 64


@pytest.mark.parametrize("step", ["manifest", "scores", "lots", "seal"])
def test_one_that_is_stopped_is_finished_by_repeating_it(output, step, monkeypatch):
    put_rule(output, calibration())

    with monkeypatch.context() as patched:
        stop_publication(patched, step)
        with pytest.raises(Stopped):
            rejudge(ledger(output))
    rejudge(ledger(output))
    assert {verdict for verdict, _ in verdicts(output).values()} == {"ok", "flagged"}
    assert [row["revision"] for row in lots(output)[DAY, "L1"]] == [0]
    assert len(rows(output, "decisions")) == 1


def test_rows_follow_another_key_pattern(output):
    """Other keys make other pieces and lots, so a rekey judges anew."""
    put_rule(output, calibration(BY_IMAGE))
    rejudge(ledger(output))
    pattern = "{line}/{batch}/{lot}_{camera}.png"
    add_entry(ledger(output), read_head(ledger(output)), Rekey(key_pattern=pattern))
    rekey(ledger(output))
    found = lots(output)
    assert {row["lot"] for row in rows(output, "scores")} >= {"000", "001"}
    assert {row["lot"] for row in rows(output, "errors")} == {"m"}
    assert found[DAY, "L1"][-1]["reason"] == "no image of it is left"
    assert found[DAY, "000"][-1]["pieces"] == 2 and found[DAY, "m"][-1]["unreadable"] == 1
