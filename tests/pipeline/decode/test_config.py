"""How a model's input becomes the settings that images are decoded with."""

import pytest
from pydantic import ValidationError

from models.config import InputConfig
from pipeline.decode.config import DecodeConfig


def test_every_setting_of_the_input_that_decoding_knows_is_taken_over() -> None:
    given = InputConfig(height=32, width=48, resize="tile", overlap=0.5, scale=2.0, white_level=4095)
    found = DecodeConfig.of(given)
    assert (found.height, found.width, found.resize, found.scale, found.white_level) == (32, 48, "tile", 2.0, 4095)
    shared = set(InputConfig.model_fields) & set(DecodeConfig.model_fields)
    assert shared == set(InputConfig.model_fields) - {"overlap", "shading_correction"}
    assert DecodeConfig.of(InputConfig()) == DecodeConfig(height=256, width=256)


def test_what_is_given_beside_it_stands_before_the_models() -> None:
    found = DecodeConfig.of(InputConfig(white_level=4095), white_level=1023, timezone="Europe/Berlin")
    assert (found.white_level, found.timezone) == (1023, "Europe/Berlin")


def test_tiles_are_not_decoded_on_the_device() -> None:
    with pytest.raises(ValidationError, match="decoder must be cpu for a model that scores by tiles; got 'cuda'"):
        DecodeConfig(height=32, width=32, resize="tile", decoder="cuda")
