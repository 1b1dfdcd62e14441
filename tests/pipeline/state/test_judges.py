"""Rules are entries of the ledger, and come back as judges with the calibration that they name."""

import pytest
from fake_run import DIGEST, MODEL, write_slice
from judged_ledger import calibration, put_files, put_rule

from pipeline.state import judges
from pipeline.state.entries import Judging, read_entry, read_head
from pipeline.state.judges import LostCalibration, Ruling, decide, judge_of
from pipeline.state.ledger import Ledger
from pipeline.verdicts.rule import Rule

OTHER = "e" * 64


@pytest.fixture
def ledger(tmp_path):
    write_slice(tmp_path / "out", [("none", [])])
    judges._judge.cache_clear()
    return Ledger(str(tmp_path / "out"), MODEL)


def test_a_model_without_a_rule_is_judged_by_none(ledger):
    judge = judge_of(ledger, read_head(ledger), DIGEST)
    assert judge.calibration is None and judge.rule == Rule() and not judge.kinds


def test_a_rule_with_its_calibration_comes_back(ledger, tmp_path):
    assert put_rule(tmp_path / "out", calibration(), rate="0.1", max_unreadable=0.2)
    head = read_head(ledger)
    judge = judge_of(ledger, head, DIGEST)
    assert (judge.rule.rate, judge.rule.max_unreadable, judge.rule.calibration) == ("0.1", 0.2, "c" * 64)
    assert judge.calibration.groups[0].scores().tolist() == calibration().groups[0].scores().tolist()
    assert judge_of(ledger, head, OTHER).calibration is None, "another version of the model has its own"


def test_the_same_rule_is_no_entry_and_a_setting_that_is_not_given_stays(ledger, tmp_path):
    put_rule(tmp_path / "out", calibration(), rate="0.1")
    number = read_head(ledger).number
    assert not put_rule(tmp_path / "out", calibration())
    assert not put_rule(tmp_path / "out", calibration(), rate="0.1")
    assert read_head(ledger).number == number
    assert put_rule(tmp_path / "out", calibration(), most_needed=9)
    entry = read_entry(ledger, number + 1)
    assert isinstance(entry, Judging)
    assert (entry.before.rate, entry.rule.rate, entry.before.most_needed, entry.rule.most_needed) == ("0.1", "0.1", None, 9)
    assert (entry.decided_by, entry.rule.texts()["most_needed"]) == ("a test", "9")


def test_a_folder_without_a_calibration_changes_the_rate_and_not_the_calibration(ledger, tmp_path):
    put_rule(tmp_path / "out", calibration())
    rule = decide(ledger, Ruling(DIGEST, None, tmp_path, {"rate": "0.2"}))
    assert rule == Rule(calibration="c" * 64, rate="0.2")


def test_who_loses_the_number_decides_on_what_is_there_then(ledger, tmp_path, monkeypatch):
    folder = put_files(tmp_path / "model", calibration())
    real, other = judges.add_entry, [Ruling(DIGEST, None, folder, {"rate": "0.3"}, "Bob")]

    def add_entry(*args):
        if other:
            decide(ledger, other.pop())
        return real(*args)

    monkeypatch.setattr(judges, "add_entry", add_entry)
    rule = decide(ledger, Ruling(DIGEST, "c" * 64, folder, {"false_share": "0.2"}, "Ada"))
    assert rule == Rule(calibration="c" * 64, rate="0.3", false_share="0.2")
    assert [judged.rule for judged in read_head(ledger).judged] == [rule]


def test_the_newest_rule_of_each_model_counts(ledger, tmp_path):
    put_rule(tmp_path / "out", calibration())
    put_rule(tmp_path / "out", calibration(digest=OTHER), digest="a" * 64, rate="0.2")
    put_rule(tmp_path / "out", calibration(), rate="0.4")
    head = read_head(ledger)
    assert [(judged.digest, judged.rule.rate) for judged in head.judged] == [(OTHER, "0.2"), (DIGEST, "0.4")]
    assert head.decided == head.number


def test_a_retrained_model_goes_on_with_the_settings_of_the_version_before_it(ledger, tmp_path):
    put_rule(tmp_path / "out", calibration(), rate="0.01", review_budget=50)
    put_rule(tmp_path / "out", calibration(digest=OTHER), digest="a" * 64)
    head = read_head(ledger)
    assert head.rule_of(OTHER) == Rule(calibration="a" * 64, rate="0.01", review_budget=50)
    entry = read_entry(ledger, head.number)
    assert entry.before == Rule(), "so that `decisions` has a row for each setting of the new version"


def test_one_without_a_calibration_keeps_them_for_when_it_has_one(ledger, tmp_path):
    put_rule(tmp_path / "out", calibration(), rate="0.01")
    assert decide(ledger, Ruling(OTHER, None, tmp_path)) == Rule(rate="0.01")
    assert decide(ledger, Ruling(OTHER, None, tmp_path)) is None
    assert judge_of(ledger, read_head(ledger), OTHER).calibration is None


def test_a_lost_or_damaged_calibration_is_named(ledger, tmp_path):
    put_rule(tmp_path / "out", calibration())
    ledger.store.put(ledger.calibration_key("c" * 64, "calibration.json"), b"{}")
    with pytest.raises(LostCalibration, match=r"calibrations/cccc.*format 1"):
        judge_of(ledger, read_head(ledger), DIGEST)
    ledger.store.delete(ledger.calibration_key("c" * 64, "calibration.json"))
    with pytest.raises(LostCalibration, match=r"calibrations/cccc.*calibration.json"):
        judge_of(ledger, read_head(ledger), DIGEST)
