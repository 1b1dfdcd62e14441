import pytest
from pydantic import ValidationError

from jobs.settings.training import TrainSettings

PLACES = {"input": "good", "model_out": "model"}


@pytest.mark.parametrize(
    ("given", "size"), [(64, (64, 64)), ("64", (64, 64)), ("64X128", (64, 128)), ([64, 128], (64, 128)), (8192, (8192, 8192))]
)
def test_a_size_is_one_side_or_two(given, size):
    assert TrainSettings(**PLACES, image_size=given).image_size == size


@pytest.mark.parametrize(
    "given", [7, "7", 0, -1, "0x64", 8193, "64x99999999", "9" * 5000, True, 64.5, [64.5, 64], "64x", [], [64, 64, 64], None]
)
def test_a_size_that_no_model_has_is_one_sentence(given):
    with pytest.raises(ValidationError) as refused:
        TrainSettings(**PLACES, image_size=given)
    (fault,) = refused.value.errors()
    assert str(fault["ctx"]["error"]).startswith("image_size must be N or HEIGHTxWIDTH, 16 to 8192 pixels each; got ")


def test_the_input_is_read_as_the_settings_say():
    options = {"key_pattern": "{lot}/{name}", "members": "*.jpg", "follow_links": True}
    source = TrainSettings(**PLACES, **options).source_of_input()
    assert source.model_dump(include={*options, "input_uri"}) == {"input_uri": "good", **options}
