"""What the keys of an image say, and what an image without them gets."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jobs.command.errors import UsageError
from jobs.images.good import Exclusions
from jobs.images.scored import KeyReader, Named, ScoredImage, check_keys, columns, score_images
from models.calibration.calibration import Keys
from pipeline.decode.config import DecodeConfig
from pipeline.input.config import SourceConfig
from pipeline.input.identity import content_hash
from pipeline.scoring.scorer import UnitScores

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


def test_a_key_numbers_the_imagings_of_a_piece() -> None:
    source = SourceConfig(input_uri="file:///again", key_pattern="{serial}_{take}.png")
    keys = Keys(source.key_pattern, ("serial",))
    assert KeyReader(source, keys, take="take")(row("007_2.png")) == Named("007", "", None, (), take="2")
    with pytest.raises(UsageError, match="--repeat-key must be a field of repeats_pattern that every image has; got 'run'"):
        KeyReader(source, keys, pattern="repeats_pattern", take="run")(row("007_2.png"))


def test_images_become_columns() -> None:
    images = [
        ScoredImage("a", "file:///a", None, "00", Named("p", "top", None, ("A",)), 1.5, True),
        ScoredImage("b", "file:///b.tar", "x", None, Named("p", "side", "l", ("A",)), 0.0, False),
    ]
    found = columns(images)
    assert found.images.score.tolist() == [1.5, 0.0] and found.images.readable.tolist() == [True, False]
    assert found.lot.tolist() == ["", "l"] and found.member == [None, "x"] and found.content_hash == ["00", ""]


class FourByFour:
    """A scorer whose maps are 1 in the rows that show a padded image twice as wide as high, and 100 in the padding."""

    tiling, batch_size = None, 4

    def __call__(self, pixels: np.ndarray) -> UnitScores:
        rows = np.array([100, 1, 1, 100], np.float32)[:, None].repeat(4, 1)  # (4, 4)
        count = len(pixels)
        return UnitScores(np.ones(count, np.float32), [rows] * count, np.zeros((count, 32), np.float16))

    def finite(self, scores: UnitScores) -> np.ndarray:
        return np.isfinite(scores.score)


def test_cells_are_counted_where_they_show_the_image_and_only_as_asked(tmp_path: Path) -> None:
    for number in range(3):
        Image.new("L", (40, 20), 50 * number).save(tmp_path / f"{number}.png")
    source, decode = SourceConfig(input_uri=str(tmp_path)), DecodeConfig(height=32, width=32, resize="pad")
    left = content_hash((tmp_path / "0.png").read_bytes())
    arguments = ("scoring", source, FourByFour(), decode, KeyReader(source, Keys()), Exclusions(None))
    found = score_images(*arguments, measured=lambda content: content != left)
    assert len(found.images) == 3 and found.maps == {(4, 4)}
    assert found.cells.total == 2 * 8 and found.cells.scale() == (1.0, 1.0)
    assert score_images(*arguments).cells.scale() is None


def test_keys_are_checked_without_scoring(tmp_path: Path) -> None:
    source = SourceConfig(input_uri=str(tmp_path), key_pattern="{serial}_{take}.png")
    check_keys(source, KeyReader(source, Keys(piece=("serial",)), take="take"))  # an empty input lacks no key
    (tmp_path / "notes.txt").write_text("no image has no keys")
    (tmp_path / "7_1.png").write_bytes(b"not looked into")
    check_keys(source, KeyReader(source, Keys(piece=("serial",)), take="take"))
    with pytest.raises(UsageError, match="--repeat-key must be a field of --key-pattern that every image has; got 'run'"):
        check_keys(source, KeyReader(source, Keys(piece=("serial",)), take="run"))
