import pytest

from pipeline.input.config import SourceConfig
from pipeline.input.names import dataset_key


@pytest.mark.parametrize(
    ("patterns", "taken", "left_out"),
    [
        ("*.jpg", ["0001.jpg", "./a/0001.JPG", "a/b.c.jpg"], ["0001.mask.png", "a.jpeg", "a.jpg/b", "jpg"]),
        ("*.jpg, *.jpeg", ["a.jpg", "a.jpeg"], ["a.png"]),
        ("photos/*.png", ["photos/a.png", "photos/b/a.png"], ["a.png", "masks/a.png", "x/photos/a.png"]),
        ("./*/cam[12]_?.bmp", ["x/cam1_a.bmp"], ["cam1_a.bmp", "x/cam3_a.bmp", "x/cam1_ab.bmp"]),
        ("[!m]*.png", ["0001.png"], ["mask.png"]),
    ],
)
def test_members_takes_names(patterns, taken, left_out):
    config = SourceConfig(input_uri="x", members=patterns)
    assert [name for name in taken + left_out if config.wants(name)] == taken
    assert SourceConfig(input_uri="x").wants("anything")


@pytest.mark.parametrize("patterns", ["", " ", "*.jpg,", ",", "./"])
def test_an_empty_pattern_is_refused(patterns):
    with pytest.raises(ValueError, match="members must be patterns"):
        SourceConfig(input_uri="x", members=patterns)


def test_the_key_of_a_sample():
    assert [dataset_key(name) for name in ("a/0001.jpg", "a/0001.mask.png", "a.b/c", "x")] == ["a/0001", "a/0001", "a.b/c", "x"]
