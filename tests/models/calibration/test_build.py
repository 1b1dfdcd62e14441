"""Which images become calibration pieces, and that what is promised of them holds for new ones."""

from fractions import Fraction

import numpy as np
import pytest

from models.calibration.build import Belongs, Scored, calibrate, select, usual_sets
from models.calibration.calibration import Calibration, Grid, Keys, Mode, Selection
from models.calibration.example import scored
from models.faults import VerdictError
from models.verdicts.image_p import image_ranks, images_flagged
from models.verdicts.pieces import Images, piece_scores, verdicts
from models.verdicts.view_scales import ViewScales

KEYS = Keys("{lot}/{serial}.png", ("serial",), None, "lot", ())
RATES = [Fraction("0.1")]
RAW = Selection(ViewScales(np.array([""]), np.zeros(1), np.ones(1)), "none", np.zeros(0, np.float32), np.zeros(0, np.int64))


def images(rows: list[tuple[str, str, str, float | None]], by: list[tuple[str, ...]] | None = None) -> Scored:
    """(lot, piece, view, score); None for an image that could not be read."""
    lot, piece, view, score = zip(*rows, strict=True)
    readable = np.array([one is not None for one in score])
    values = np.array([one if one is not None else 1e9 for one in score], np.float32)
    names = [str(at) for at in range(len(rows))]
    columns = Images(np.array(piece), np.array(view), values, readable)
    return Scored(
        columns, np.array(lot), by or [()] * len(rows), names, [None] * len(rows), [f"{at:032x}" for at in range(len(rows))]
    )


def made(good: Scored, selection: Selection = RAW, keys: Keys = KEYS, rates: list[Fraction] = RATES) -> Calibration:
    belongs = Belongs("00", Mode("cpu-float32", 16, 5), Grid(32, 32, "squash", ((4, 4),)), keys)
    return calibrate(good, selection, belongs, rates)


def test_a_piece_is_its_largest_image_and_incomplete_ones_do_not_count() -> None:
    rows = [(f"lot {at % 3}", f"p{at}", "", float(at + shift)) for at in range(20) for shift in (0, 30)]
    rows += [("lot 0", "half", "", 99.0), ("lot 1", "blind", "", None), ("lot 1", "blind", "", 98.0)]
    found = made(images(rows))
    group = found.groups[0]
    assert group.score.tolist() == [30.0 + at for at in range(20)] and group.sets.tolist() == [[2]]
    assert [found.lots[lot] for lot in group.lot] == [f"lot {at % 3}" for at in range(20)]
    assert len(found.images.score) == 40 and 99.0 not in found.images.score
    assert len(found.hashes) == 42  # of all that could be read: they must not be judged as new ones


def test_image_counts_vary_or_pieces_are_incomplete() -> None:
    scales = RAW.scales
    alike = images(
        [("", f"p{at}", "", 1.0) for at in range(18) for _ in range(2)] + [("", "one", "", 1.0), ("", "two", "", 1.0)]
    )
    assert usual_sets(alike.images, scales, least=1).tolist() == [[2]]
    mixed = images(
        [("", f"p{at}", "", 1.0) for at in range(17) for _ in range(2)] + [("", f"s{at}", "", 1.0) for at in range(3)]
    )
    assert usual_sets(mixed.images, scales, least=3).tolist() == [[2], [1]]
    assert usual_sets(mixed.images, scales, least=4).tolist() == [[2]]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("a", "p", "", 1.0), ("b", "p", "", 2.0)], "one value of lot; got 'a' and 'b' for 'p'.*--piece-key lot,serial"),
        ([("a", "p", "top", 1.0)], r"views must be those that have a scale, ''; got \['top'\]"),
        ([("a", "p", "", None)], "complete pieces must be 1 or more; got 0 of 1"),
    ],
)
def test_what_cannot_be_calibrated(rows: list[tuple[str, str, str, float | None]], message: str) -> None:
    with pytest.raises(VerdictError, match=message):
        made(images(rows))


def test_a_piece_has_one_value_of_by() -> None:
    good = images([("a", "p", "", 1.0), ("a", "p", "", 2.0)], by=[("A",), ("B",)])
    with pytest.raises(VerdictError, match="one value of the keys of by"):
        made(good, keys=KEYS._replace(by=("line",)))


def test_a_value_of_by_stands_for_itself_from_5_lots_and_enough_pieces() -> None:
    def good(lots: int, pieces: int) -> Scored:
        rows = [(f"lot {at % lots}", f"p{at}", "", float(at)) for at in range(pieces)]
        rows += [("other", f"q{at}", "", 0.0) for at in range(30)]
        return images(rows, by=[("A",)] * pieces + [("B",)] * 30)

    keys = KEYS._replace(by=("line",))
    for lots, pieces, groups in ((5, 49, 2), (5, 48, 1), (4, 80, 1)):  # 5 / 0.1 - 1 = 49
        assert len(made(good(lots, pieces), keys=keys).groups) == groups
    found = made(good(5, 60), keys=keys)
    assert found.groups[1].score.tolist() == [float(at) for at in range(60)] and found.seen == (("A", "B"),)
    assert found.group_for(("A",), Fraction("0.1")) is found.groups[1]
    assert found.group_for(("A",), Fraction("0.05")) is found.groups[0]
    with pytest.raises(VerdictError, match="one value for each of line"):
        found.group_for((), Fraction("0.1"))
    assert len(made(good(5, 60), keys=keys._replace(lot=None)).groups) == 1  # lots that are not known are no 5 lots


def test_stored_images_reach_from_the_lowest_to_the_highest_score() -> None:
    good = scored(pieces=700)
    stored = made(good, keys=KEYS._replace(by=("line",))).stored
    scores = [image.score for image in stored]
    assert len(stored) == 200 and scores == sorted(scores)
    assert (scores[0], scores[-1]) == (float(good.images.score.min()), float(good.images.score.max()))
    at = good.uri.index(stored[7].uri)
    assert (good.content_hash[at], float(good.images.score[at])) == (stored[7].content_hash, stored[7].score)


def test_scales_come_from_the_selection_set_alone() -> None:
    rows = [("l", f"p{at}", view, float(at * (1 + 9 * (view == "b")))) for at in range(30) for view in "ab"]
    selected, good = images(rows), images(rows[:20])
    found = select(selected, good, KEYS)
    shifted = good._replace(images=good.images._replace(score=good.images.score * 7 + 3))
    again = select(selected, shifted, KEYS)
    assert np.array_equal(found.scales.q50, again.scales.q50) and np.array_equal(found.score, again.score)
    assert found.scales.q50.tolist() == [14.5, 145.0] and len(found.score) == 30
    with pytest.raises(VerdictError, match=r"must show every view, 'a', 'b'.*got none of \['b'\]"):
        select(images(rows[::2]), good, KEYS)
    one = select(images(rows[:1]), images(rows[::2]), KEYS)  # one view and no spread: raw scores will do
    assert (one.scales.q50.tolist(), one.scales.q90.tolist(), one.basis) == ([0.0], [1.0], "none: one view, raw scores")


def drawn(rng: np.random.Generator, pieces: int, alike: float) -> Scored:
    """Pieces of one or three images of two views, whose scores agree within a piece."""
    rows: list[tuple[str, str, str, float | None]] = []
    for at in range(pieces):
        own = rng.normal() * alike
        for view in "a" if at % 2 else "aab":
            rows.append(("", f"p{at:04}", view, float((own + rng.normal()) * (1 + 9 * (view == "b")))))
    return images(rows)


def test_new_pieces_are_flagged_and_images_exceed_as_often_as_promised() -> None:
    """Image counts vary and images of a piece are alike. 300 calibrations of 39 pieces of each kind."""
    rng, rate = np.random.default_rng(0), Fraction("0.05")
    scales = ViewScales(np.array(["a", "b"]), np.zeros(2), np.array([1.0, 10.0]))
    selection = RAW._replace(scales=scales)
    shares, images_over = [], []
    for _ in range(300):
        found = made(drawn(rng, 78, alike=2.0), selection, rates=[rate])
        group, new = found.groups[0], drawn(rng, 40, alike=2.0)
        assert [len(one) for one in group.calibrations()] == [39, 39]
        verdict = verdicts(piece_scores(new.images, scales, group.sets), group.calibrations(), rate).verdict
        shares.append(np.mean([one == "flagged" for one in verdict]))
        mine = new.images.view == "a"
        known = found.images_of(group, "a")
        over = images_flagged(image_ranks(new.images.score[mine], known), rate, known)
        _, piece = np.unique(new.images.piece[mine], return_inverse=True)
        images_over.append(np.mean(np.bincount(piece, over) / np.bincount(piece)))
    for observed, exact in ((shares, 2 / 40), (images_over, None)):
        error = 3.5 * np.std(observed) / np.sqrt(len(observed))
        assert np.mean(observed) <= 0.05 + error
        assert exact is None or abs(np.mean(observed) - exact) <= error  # no ties: as often as promised, not less
