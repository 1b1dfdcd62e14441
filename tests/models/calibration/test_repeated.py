"""Imagings of a piece are judged as new pieces are, and only complete ones are compared."""

import numpy as np
import pytest

from models.calibration.build import Belongs, calibrate, select
from models.calibration.calibration import Agreement, Grid, Keys, Mode
from models.calibration.example import calibration, scored
from models.calibration.repeated import repeated
from models.faults import VerdictError
from models.verdicts.pieces import Images
from models.verdicts.rates import rate_of

HIGH, LOW = 99.0, -99.0


def images(*rows: tuple[str, str, float | None]) -> tuple[Images, list[str]]:
    """Columns and takes of (piece, take, score); without a score an image cannot be read."""
    piece, takes, score = zip(*rows, strict=True)
    readable = np.array([one is not None for one in score])
    numbers = np.array([one or 0.0 for one in score], np.float32)
    return Images(np.array(piece), np.full(len(rows), ""), numbers, readable), list(takes)


def test_agreement_is_of_all_imagings_of_a_piece() -> None:
    rows = [("a", "1", HIGH), ("a", "2", HIGH), ("a", "3", HIGH)]  # always flagged
    rows += [("b", "1", LOW), ("b", "2", LOW)]  # never
    rows += [("c", "3", LOW), ("c", "1", HIGH), ("c", "2", LOW)]  # once of three
    rows += [("d", "1", HIGH)]  # imaged once
    found = repeated(calibration(pieces=60), "again", *images(*rows), ["0.1", "5 %", "0.01"])
    assert (found.uri, found.fewest, found.most, found.once, found.incomplete) == ("again", 2, 3, 1, 0)
    assert [one.rate for one in found.agreements] == ["0.1", "5 %"]  # 60 pieces cannot promise 1 %
    for one in found.agreements:
        assert one[1:3] == (2, 3) and one.flagged == 2 and one.pairs == pytest.approx((1 + 1 + 1 / 3) / 3)


def test_imagings_that_are_not_complete_do_not_count_even_if_flagged() -> None:
    """Of pieces of two images: a has a surplus image in one imaging, b an unreadable one, c a missing one."""
    complete = [(piece, take, LOW) for piece in "abcd" for take in "12" for _ in range(2)]
    rows = [*complete, ("a", "3", HIGH), ("a", "3", HIGH), ("a", "3", HIGH)]
    rows += [("b", "3", HIGH), ("b", "3", None), ("c", "3", HIGH)]
    found = repeated(calibration(pieces=60, images=2), "again", *images(*rows), ["0.1"])
    assert found.agreements == (Agreement("0.1", 4, 4, 1.0, 0),) and found.incomplete == 3
    assert (found.fewest, found.most, found.once) == (2, 2, 0)


def test_the_order_of_the_images_says_nothing() -> None:
    rng = np.random.default_rng(0)
    rows = [(f"p{at % 7}", f"{at // 7}", float(rng.normal())) for at in range(28)]
    made = calibration(pieces=60)
    shuffled = [rows[at] for at in rng.permutation(28)]
    assert repeated(made, "x", *images(*rows), ["0.1"]) == repeated(made, "x", *images(*shuffled), ["0.1"])


def test_pieces_of_a_kind_that_cannot_promise_the_rate_are_not_compared() -> None:
    """30 pieces of one image, 15 of two: at 5 % only the former can be judged."""
    one, two = scored(30), scored(15, images=2, seed=2)
    names = np.array([f"two {name}" for name in two.images.piece])
    columns = [np.concatenate(pair) for pair in zip(one.images, two.images._replace(piece=names), strict=True)]
    lists = (one.by + two.by, one.uri + two.uri, one.member + two.member, one.content_hash + two.content_hash)
    good = one._replace(images=Images(*columns), lot=np.concatenate([one.lot, two.lot]))
    good = good._replace(by=lists[0], uri=lists[1], member=lists[2], content_hash=lists[3])
    belongs = Belongs("ab" * 32, Mode("cpu-float32", 16, 5), Grid(64, 64, "squash", ((8, 8),)), Keys(piece=("serial",)))
    made = calibrate(good, select(good, good, belongs.keys), belongs, [rate_of("0.1")])
    assert [len(scores) for scores in made.groups[0].calibrations()] == [30, 15]
    rows = [("a", "1", HIGH), ("a", "2", LOW), ("b", "1", HIGH), ("b", "1", HIGH), ("b", "2", HIGH), ("b", "2", HIGH)]
    found = {one.rate: one for one in repeated(made, "x", *images(*rows), ["0.1", "0.05"]).agreements}
    assert found["0.1"][1:3] == (1, 2) and found["0.05"] == Agreement("0.05", 0, 1, 0.0, 1)


def test_pieces_imaged_once_are_refused() -> None:
    with pytest.raises(VerdictError, match="repeats must be pieces with two or more complete imagings; got 2 pieces without"):
        repeated(calibration(pieces=60), "x", *images(("a", "1", 1.0), ("b", "1", 1.0), ("b", "2", None)), ["0.1"])
