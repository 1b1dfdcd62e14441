"""The settings of `flowscore calibrate`, as a file of --config or flags give them."""

from fractions import Fraction

import pytest

from jobs.command.config import ConfigError, load
from jobs.settings.calibration import CalibrateSettings
from models.faults import VerdictError

PLACES = {"model": "model", "input": "good"}


def test_rates_are_exact_as_text_or_as_a_list() -> None:
    wanted = [Fraction(29, 100), Fraction(1, 100)]
    for rates in ("0.29,0.01", [0.29, 0.01], "29 %, 1%"):
        assert load(CalibrateSettings, None, **PLACES, rates=rates).fractions() == wanted
    assert load(CalibrateSettings, None, **PLACES).fractions() == [Fraction(1, 10), Fraction(1, 20), Fraction(1, 100)]
    with pytest.raises((ConfigError, VerdictError), match="rate must be above 0 and below 1; got ''"):
        load(CalibrateSettings, None, **PLACES, rates="0.1,")


def test_keys_are_lists_of_names() -> None:
    settings = load(CalibrateSettings, None, **PLACES, piece_key="lot, serial", by="line")
    assert settings.pieces() == ("lot", "serial") and settings.groups() == ("line",)
    for keys in ("", "lot,lot"):
        with pytest.raises(ConfigError, match="keys must be names of key columns"):
            load(CalibrateSettings, None, **PLACES, piece_key=keys)


def test_the_challenge_is_read_by_its_own_pattern_or_by_the_same() -> None:
    shared = PLACES | {"key_pattern": "{lot}/{name}", "challenge": "bad", "follow_links": True}
    assert load(CalibrateSettings, None, **PLACES).source_of_challenge() is None
    for more, pattern in (({}, "{lot}/{name}"), ({"challenge_pattern": "{size}/{name}"}, "{size}/{name}")):
        source = load(CalibrateSettings, None, **shared, **more).source_of_challenge()
        assert source is not None and (source.input_uri, source.key_pattern, source.follow_links) == ("bad", pattern, True)
    with pytest.raises(ConfigError, match="key_pattern must have its braces in pairs"):
        load(CalibrateSettings, None, **PLACES, challenge="bad", challenge_pattern="{size")
