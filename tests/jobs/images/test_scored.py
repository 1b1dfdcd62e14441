"""What the keys of an image say, and what an image without them gets."""

import pytest

from jobs.command.errors import UsageError
from jobs.images.scored import KeyReader, Named, ScoredImage, columns
from models.calibration.calibration import Keys
from pipeline.input.config import SourceConfig

SOURCE = SourceConfig(input_uri="file:///good", key_pattern="{line}/{lot}/{serial}_{camera}.png")
KEYS = Keys(SOURCE.key_pattern, ("lot", "serial"), "camera", "lot", ("line", "lot"))


def row(key: str, lot: str | None = None, keys: list | None = None) -> dict:
    return {"key": key, "keys": keys or [], "lot": lot}


def test_a_piece_is_named_by_all_its_keys() -> None:
    assert KeyReader(SOURCE, KEYS)(row("A/l1/007_top.png")) == Named("l1/007", "top", "l1", ("A", "l1"))
    assert KeyReader(SOURCE, Keys())(row("A/l1/007_top.png")) == Named("A/l1/007_top.png", "", None, ())


def test_keys_of_a_row_win_over_those_of_the_path() -> None:
    found = KeyReader(SOURCE, KEYS)(row("A/l1/007_top.png", lot="l2", keys=[("line", "B")]))
    assert (found.lot, found.by) == ("l2", ("B", "l2"))


def test_an_image_without_a_key_is_named() -> None:
    read = KeyReader(SOURCE, KEYS)
    with pytest.raises(UsageError, match="--piece-key must be a field of --key-pattern that every image has; got 'lot'") as no:
        read(row("odd.png"))
    assert "odd.png lacks it" in str(no.value)
    only_lot = Keys(SOURCE.key_pattern, lot="lot")
    assert KeyReader(SOURCE, only_lot)(row("odd.png")).lot is None
    with pytest.raises(UsageError, match="--group-key must be"):
        KeyReader(SOURCE, only_lot, every_lot=True)(row("odd.png"))
    with pytest.raises(UsageError, match="--size-key must be a field of challenge_pattern"):
        KeyReader(SOURCE, only_lot, size="size", pattern="challenge_pattern")(row("A/l1/007_top.png"))


def test_images_become_columns() -> None:
    images = [
        ScoredImage("a", "file:///a", None, "00", Named("p", "top", None, ("A",)), 1.5, True),
        ScoredImage("b", "file:///b.tar", "x", None, Named("p", "side", "l", ("A",)), 0.0, False),
    ]
    found = columns(images)
    assert found.images.score.tolist() == [1.5, 0.0] and found.images.readable.tolist() == [True, False]
    assert found.lot.tolist() == ["", "l"] and found.member == [None, "x"] and found.content_hash == ["00", ""]
