"""Pieces: the first complete set counts, a missing view can only raise p, and what has no guarantee is not judged."""

from fractions import Fraction

import numpy as np
import pytest

from models.faults import VerdictError
from models.verdicts.pieces import Images, PieceVerdicts, calibrations, piece_scores, piece_sets, verdicts
from models.verdicts.view_scales import ViewScales

SIX = ViewScales(np.array(list("abcdef")), np.zeros(6), np.ones(6))
SETS = np.ones((1, 6), np.int64)
RATE = Fraction("0.05")
CALIBRATION = [np.arange(100, dtype=np.float32)]  # at 5 %: flagged above 95, from 95.5 on


def images_of(*rows: tuple[str, str, float | None]) -> Images:
    """(piece, view, score), None for an image that could not be read."""
    piece, view, score = zip(*rows, strict=True)
    readable = np.array([one is not None for one in score])
    return Images(np.array(piece), np.array(view), np.array([-1e9 if s is None else s for s in score], np.float32), readable)


def piece(name: str, *scores: float | None) -> list[tuple[str, str, float | None]]:
    return [(name, view, score) for view, score in zip("abcdef", scores, strict=False)]


def judge(rows: list[tuple[str, str, float | None]]) -> PieceVerdicts:
    return verdicts(piece_scores(images_of(*rows), SIX, SETS), CALIBRATION, RATE, of="views")


def said(rows: list[tuple[str, str, float | None]]) -> tuple[str, str]:
    found = judge(rows)
    return found.verdict[0], found.reason[0]


def test_complete_pieces() -> None:
    found = judge(piece("p", 1, 2, 3, 4, 5, 6) + piece("q", 1, 2, 96, 4, 5, 6))
    assert found.verdict == ["ok", "flagged"] and found.reason == ["", ""]
    assert found.rank.tolist() == [95, 5] and found.n.tolist() == [100, 100]
    assert found.p.tolist() == [95 / 101, 5 / 101]


def test_a_missing_or_unreadable_view() -> None:
    assert said(piece("p", 1, 2, 3, 4, 5)) == ("not_judged", "5 of 6 views")
    assert said(piece("p", 1, 2, None, 4, 5, None)) == ("not_judged", "4 of 6 views")
    assert said(piece("p", 1, 96, None, 4, 5, 6)) == ("flagged", "5 of 6 views")
    found = judge(piece("p", None, None))
    assert found.verdict == ["not_judged"] and found.reason == ["0 of 6 views"]
    assert not found.ranked[0] and np.isnan(found.p[0])


def test_a_missing_view_can_only_raise_p() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        rows = piece("p", *rng.uniform(0, 110, 6))
        whole = judge(rows).rank[0]
        assert all(judge(rows[:left] + rows[left + 1 :]).rank[0] >= whole for left in range(6))


def test_no_test_until_it_passes() -> None:
    """Taking a flagged piece again cannot clear it, and a retake of what could not be read completes a piece."""
    bad, good = piece("p", 1, 96, 3, 4, 5, 6), piece("p", 1, 2, 3, 4, 5, 6)
    assert said(bad + good) == ("flagged", "12 views, and a complete piece has 6")
    assert said(good + bad) == ("not_judged", "12 views, and a complete piece has 6")
    assert judge(good + bad).rank[0] == judge(good).rank[0]
    assert said(piece("p", 1, None, 3, 4, 5, 6) + [("p", "b", 2.0)]) == ("ok", "")
    assert said(bad + [("p", "of no calibration", 2.0)])[0] == "flagged"


def test_a_view_that_was_never_calibrated() -> None:
    assert said(piece("p", 1, 2, 3, 4, 5, 6) + [("p", "g", 500.0)]) == ("not_judged", "7 views, and a complete piece has 6")
    assert said([("p", "g", 500.0)]) == ("not_judged", "0 of 6 views")


def test_a_calibration_that_is_too_small() -> None:
    scored = piece_scores(images_of(*piece("p", 1, 2, 3, 4, 5, 1000)), SIX, SETS)
    found = verdicts(scored, [np.arange(18, dtype=np.float32)], RATE)
    assert found.verdict == ["not_judged"] and found.reason == ["calibration too small: 18 pieces, and 0.05 needs 19"]
    none = verdicts(scored, [np.empty(0, np.float32)], RATE)
    assert none.verdict == ["not_judged"] and none.n.tolist() == [0]


def test_calibration_takes_complete_pieces_only_and_the_first_set() -> None:
    rows = piece("p", 1, 2, 3, 4, 5, 6) + piece("q", 9, 9, 9, 9, 9) + piece("r", 1, 2, 3, 4, 5, None)
    scored = piece_scores(images_of(*rows, *piece("p", 8, 8)), SIX, SETS)
    assert [one.tolist() for one in calibrations(scored, SETS)] == [[6.0]]


def test_image_counts_that_vary_have_a_calibration_each() -> None:
    one_view = ViewScales(np.array([""]), np.zeros(1), np.ones(1))
    counts = {"a": 3, "b": 5, "c": 3, "d": 4}
    rows = [(name, "", float(i)) for name, count in counts.items() for i in range(count)]
    images = images_of(*rows)
    found = piece_sets(images, one_view)
    assert found.sets.tolist() == [[3], [4], [5]] and found.pieces.tolist() == [2, 1, 1]
    sets = np.array([[3], [5]])
    scored = piece_scores(images, one_view, sets)
    assert [one.tolist() for one in calibrations(scored, sets)] == [[2.0, 2.0], [4.0]]
    judged = verdicts(scored, [np.arange(19, dtype=np.float32), np.zeros(19, np.float32)], RATE)
    assert judged.verdict == ["ok", "flagged", "ok", "not_judged"]
    assert judged.reason[3] == "no calibration for a piece with these 4 images"


def test_many_pieces_agree_with_a_plain_loop() -> None:
    rng = np.random.default_rng(1)
    count = 3000
    images = Images(
        rng.integers(0, 400, count).astype(str),
        np.array(list("abcdefg"))[rng.integers(0, 7, count)],
        rng.standard_normal(count).astype(np.float32),
        rng.random(count) < 0.9,
    )
    scored = piece_scores(images, SIX, SETS)
    for row, name in enumerate(scored.piece):
        taken: dict[str, float] = {}
        surplus = 0
        for own, view, score, readable in zip(*images, strict=True):
            if own == name and view == "g":
                surplus += 1
            elif own == name and readable:
                surplus += view in taken
                taken.setdefault(view, float(score))
        assert (scored.counted[row], scored.surplus[row]) == (len(taken), surplus)
        assert not taken or scored.score[row] == max(taken.values())


def test_a_readable_image_without_a_finite_score_is_an_error() -> None:
    with pytest.raises(VerdictError, match="scores must be finite"):
        piece_scores(images_of(("p", "a", float("nan"))), SIX, SETS)
