from dataclasses import replace
from fractions import Fraction

import pytest

from jobs.pages.verdict_words import number, promised, ranked, said_of, why_none
from pipeline.report.facts import WorstImage
from pipeline.report.verdict_facts import NotJudged, Promise, Verdicts

IMAGE = WorstImage(
    *("i", "s3://a/b.png", None, None, 8, 8, 1.5, "L1", "2026-01-01"),
    *("7", "top", 3, 212, 0.25, 3 / 213, "flagged", None, None, {}, None, ()),
)
NONE = Verdicts((), 0, 0, 0, (), (NotJudged("not calibrated", 5, 9),), 5, {}, {}, (), {"ab": None})


def test_why_nothing_is_judged():
    assert why_none(NONE) == "No image is flagged: its scores are not calibrated."
    two = (NotJudged("1 of 2 views", 1200, 1200), NotJudged("not readable", 2, 4))
    other = replace(NONE, not_judged=two, not_judged_pieces=1202, calibrations={"ab": "cd"})
    assert why_none(other) == "No piece could be judged: 1 of 2 views (1,200 of 1,202 pieces)."


def test_what_a_rate_promises_of_groups_of_several_sizes():
    small = Promise(Fraction(1, 20), 99, 10, Fraction(5, 100), 0.09, Fraction(1, 2))
    large = Promise(Fraction(1, 20), 1200, 10, Fraction(60, 1201), 0.06, Fraction(1, 2))
    (said,) = promised((small, large))
    assert said.startswith("At a rate of 5 %, a good piece is flagged with at most 5 % on average")
    assert "at most 9 % for 95 of 100 calibrations of 99 to 1,200 pieces" in said
    assert len(promised((small, replace(large, rate=Fraction(1, 10))))) == 2 and promised(()) == []


@pytest.mark.parametrize(
    ("rank", "higher"), [(1, "none scores"), (2, "one of them scores"), (3, "2 of them score"), (1201, "1,200 of them score")]
)
def test_the_place_of_a_piece_among_good_ones(rank, higher):
    image = replace(IMAGE, rank=rank, n_calibration=1200, piece_p=rank / 1201, piece=None)
    p = f"{rank / 1201:.2g}"
    assert ranked(image) == f"rank {rank:,} among 1,200 good pieces: {higher} as high, p {p}"


def test_an_image_of_several_has_its_own_p():
    assert ranked(IMAGE).endswith("2 of them score as high, p 0.014; this image alone: p 0.25")
    assert ranked(replace(IMAGE, rank=None, piece_p=None)) == "" == ranked(replace(IMAGE, n_calibration=None))


def test_the_verdict_in_words():
    assert said_of(IMAGE) == "flagged"
    assert said_of(replace(IMAGE, verdict="not_judged", reason="1 of 2 views")) == "not judged: 1 of 2 views"


def test_expected_numbers_are_short():
    assert [number(Fraction(n, 7)) for n in (0, 1, 50, 700, 70_000)] == ["0", "0.14", "7.1", "100", "10,000"]
