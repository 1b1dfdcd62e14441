"""Which images may calibrate, by their contents and in whole pieces."""

import pytest

from jobs.command.errors import UsageError
from jobs.images.kept import Kept, Seen, kept_images, seen_by
from jobs.images.scored import Named, ScoredImage, ScoredSet

SEEN = Seen(frozenset(f"f{at}" for at in range(10)), frozenset({"s0", "s1"}), True)
TRAINED = {"calibration": 3, "excluded": 0}


def image(content: str, piece: str | None = None, lot: str | None = None, readable: bool = True) -> ScoredImage:
    named = Named(piece or content, "", lot, ())
    return ScoredImage(f"{content}.png", f"file:///{content}.png", None, content, named, 1.0, readable)


def kept(good: list[ScoredImage], fitted: int = 10, trained: dict = TRAINED, seen: Seen = SEEN) -> Kept:
    left_out = [image(f"f{at}", piece=f"p{at}", lot="known") for at in range(fitted)]
    return kept_images(ScoredSet(images=good, left_out=left_out), seen, trained, "here")


def test_the_record_of_a_training_is_read() -> None:
    digits = ("a" * 32, "b" * 32, "c" * 32)
    hashes = {"fit": digits[0] + digits[1], "selection": digits[2]}
    assert seen_by({"content_hashes": hashes}) == Seen(frozenset(digits[:2]), frozenset(digits[2:]), True)
    assert seen_by({}) == Seen(frozenset(), frozenset(), False)


def test_the_input_of_train_gives_what_it_kept_and_its_selection_images() -> None:
    found = kept([image("a"), image("s0"), image("b")])
    assert [one.content_hash for one in found.good] == ["a", "b"] and [one.content_hash for one in found.selected] == ["s0"]
    assert found.lines == [
        "the input is the one that train read: 10 fitted images are left out, 1 of the selection set only give scales"
    ]


def test_images_beyond_those_that_train_kept_are_said() -> None:
    (_, line) = kept([image(name) for name in "abcde"]).lines
    assert line == "train kept 3 images for calibration, 2 more are here"
    (_, line) = kept([image(name) for name in "abcde"], trained={"calibration": 3, "excluded": 2}).lines
    assert line.endswith("train left out 2 by --exclude: give the same file here")


def test_whole_pieces_are_left_out_and_lots_that_were_fitted_are_said() -> None:
    good = [image("a", "p3"), image("b", "q"), image("c", "r", lot="known"), image("s0", "q"), image("s1", "p4")]
    found = kept(good)
    assert [one.content_hash for one in found.good] == ["c"] and [one.content_hash for one in found.selected] == ["s0"]
    assert "2 images are left out, since the model has seen other images of the same pieces" in found.lines[1]
    assert "1 lots of the calibration were fitted on too" in found.lines[2]


@pytest.mark.parametrize(("fitted", "selected"), [(1, False), (4, True), (0, True)])
def test_another_input_with_images_that_the_model_knows_is_refused(fitted: int, selected: bool) -> None:
    with pytest.raises(UsageError, match=f"{fitted + selected} images that it was fitted or selected on, such as"):
        kept([image("a")] + [image("s0")] * selected, fitted=fitted)


def test_other_images_are_taken_as_they_are() -> None:
    found = kept([image(name) for name in "abcdef"], fitted=0)
    assert len(found.good) == 6 and found.lines == []
    unknown = kept([image("a")], fitted=0, seen=Seen(frozenset(), frozenset(), False))
    assert "does not record what it was fitted on" in unknown.lines[0] and len(unknown.good) == 1


def test_without_an_image_that_can_be_read_there_is_nothing_to_promise() -> None:
    with pytest.raises(UsageError, match="Give good images that can be read"):
        kept([image("a", readable=False)], fitted=0)
    with pytest.raises(UsageError, match="--calibration-share 0"):
        kept([], trained={"calibration": 0, "excluded": 0})
