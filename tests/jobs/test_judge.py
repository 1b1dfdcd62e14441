"""`flowscore judge`: what it refuses, and what it says."""

import re
from types import SimpleNamespace

import pytest
from fake_run import DIGEST, MODEL
from judged_ledger import calibration, image, lots, publish, put_files, rows

from jobs import judge
from jobs.command.entry import run
from jobs.settings.verdicts import VerdictOptions
from pipeline.verdicts.rule import Rule

DAY = "2026-05-04"


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    """Runs the command on a model with these digests; returns the exit code and what was said."""

    def command(*arguments, digest=DIGEST, calibrated="c" * 64):
        folder = put_files(tmp_path / "model", calibration())
        opened = SimpleNamespace(
            config=SimpleNamespace(name=MODEL), model_digest=digest, calibration_digest=calibrated, directory=folder
        )
        monkeypatch.setattr(judge, "model_folder", lambda uri, cache: uri)
        monkeypatch.setattr(judge, "artifact", SimpleNamespace(read=lambda path: opened))
        with pytest.raises(SystemExit) as ended:
            run(judge.main, ["--model", "model", "--output", str(tmp_path / "out"), *arguments])
        said = capsys.readouterr()
        return ended.value.code or 0, said.out + said.err

    return command


@pytest.fixture
def output(tmp_path):
    publish(tmp_path / "out", [(DAY, [image("L1", "1", 0.0, view) for view in ("top", "side")])])
    return tmp_path / "out"


def test_scores_become_verdicts_and_another_rate_is_a_decision(output, call):
    code, said = call("--decided-by", "Ada")
    assert code == 0
    assert said == (
        f"model {MODEL}: verdicts at a rate of 0.05; calibration {'c' * 16}\n"
        f"model {MODEL}: judged anew: 2 rows of scores written, 1 lots; no image was read\n"
    )
    assert {row["verdict"] for row in rows(output, "scores")} == {"ok"}
    assert call() == (0, f"model {MODEL}: every score is judged by this calibration and rate already\n")
    code, said = call("--rate", "1 %")
    assert code == 0 and "verdicts at a rate of 1 %" in said
    assert [row["rate"] for row in lots(output)[DAY, "L1"]] == ["0.05", "1 %"]
    decided = {(row["setting"], row["old"], row["new"]): row["decided_by"] for row in rows(output, "decisions")}
    assert decided[("calibration", None, "c" * 64)] == "Ada" and ("rate", "0.05", "1 %") in decided


def test_a_folder_without_a_calibration_keeps_the_one_of_the_output(output, call):
    call()
    code, said = call("--rate", "0.1", calibrated=None)
    assert code == 0 and f"calibration {'c' * 16}" in said
    assert {row["calibration_digest"] for row in rows(output, "scores")} == {"c" * 64}


def test_a_model_that_is_not_calibrated_judges_nothing(output, call):
    code, said = call("--rate", "0.1", calibrated=None)
    assert (code, said) == (
        0,
        f"model {MODEL}: verdicts at a rate of 0.1; the model is not calibrated: nothing is judged\n",
    )
    assert {row["reason"] for row in rows(output, "scores")} == {"not calibrated"}


def test_a_review_budget_is_ended_by_0(output, call):
    assert call("--review-budget", "1")[0] == 0
    assert {row["verdict"] for row in rows(output, "scores")} == {"flagged"}
    call("--rate", "0.1")
    assert {row["verdict"] for row in rows(output, "scores")} == {"flagged"}, "what is not given stays"
    call("--review-budget", "0")
    assert {row["verdict"] for row in rows(output, "scores")} == {"ok"}
    budgets = [(row["old"], row["new"]) for row in rows(output, "decisions") if row["setting"] == "review_budget"]
    assert sorted(budgets, key=str) == [("1", None), (None, "1")]


def test_a_limit_of_pieces_is_ended_by_0(tmp_path):
    options = VerdictOptions(most_needed=0, rate="0.1")
    before = Rule(rate="0.2", most_needed=9)
    assert options.ruling("d" * 64, None, tmp_path).rule(before) == Rule(rate="0.1")
    assert VerdictOptions().ruling("d" * 64, None, tmp_path).rule(before) == before


@pytest.mark.parametrize("rate", ["0", "1.5", "five"])
def test_what_is_no_rate_is_refused(output, call, rate):
    code, said = call("--rate", rate)
    assert code == 2 and "rate must be above 0 and below 1" in said and said.count("\n") == 1


def test_a_place_or_a_version_that_has_not_scored_is_refused(tmp_path, call):
    code, said = call()
    assert code == 2 and re.match(r"error: --output must be a place where model tiles has scored", said)
    publish(tmp_path / "out", [(DAY, [image("L1", "1", 0.0)])])
    code, said = call(digest="e" * 64)
    assert code == 2 and "--model must be a version of tiles that has scored there" in said
