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


AGAIN = PLACES | {"repeats": "again", "repeat_key": "take", "piece_key": "serial", "key_pattern": "{serial}_{take}.png"}


def test_repeats_are_read_by_their_own_pattern_or_by_the_same() -> None:
    assert load(CalibrateSettings, None, **PLACES).source_of_repeats() is None
    for more, pattern in (({}, AGAIN["key_pattern"]), ({"repeats_pattern": "{take}/{serial}.png"}, "{take}/{serial}.png")):
        source = load(CalibrateSettings, None, **AGAIN, **more).source_of_repeats()
        assert source is not None and (source.input_uri, source.key_pattern) == ("again", pattern)
    with pytest.raises(ConfigError, match="key_pattern must have its braces in pairs"):
        load(CalibrateSettings, None, **AGAIN, repeats_pattern="{take")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"repeat_key": None}, "repeat_key must be given with repeats; got repeats 'again' alone. Add --repeat-key"),
        ({"repeats": None}, "repeats must be given with repeat_key; got repeat_key 'take' alone. Add --repeats"),
        ({"piece_key": None}, "piece_key must be given with repeats"),
        ({"repeat_key": "serial"}, "repeat_key must be a key column that names neither the piece nor the view"),
        ({"view_key": "take"}, "repeat_key must be a key column that names neither the piece nor the view"),
        ({"repeat_key": "take,run"}, "repeat_key must be one key column"),
    ],
)
def test_repeats_that_cannot_be_compared_are_one_sentence(change: dict[str, str | None], message: str) -> None:
    given = {name: value for name, value in (AGAIN | change).items() if value is not None}
    with pytest.raises(ConfigError, match=message):
        load(CalibrateSettings, None, **given)
