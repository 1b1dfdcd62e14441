"""A damaged calibration whose digests were made anew is one error, or a calibration that can be used."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mutations import fuzz, mutated

from models.artifact import ArtifactError
from models.calibration.calibration import Agreement, Challenge, Detected, Repeats
from models.calibration.example import calibration
from models.calibration.files import ARRAYS, JSON, decoded, encoded
from models.calibration.promises import promises
from models.maps.map_scale import MapScale

LENGTH_BYTES = 8  # of the header, at the start of a safetensors file


@pytest.fixture(scope="module")
def whole():
    made = calibration(pieces=30, images=2)
    challenge = Challenge("bad", (Detected("0.05", "large", 3, 4),))
    repeats = Repeats("again", 2, 3, 0, 1, (Agreement("0.05", 5, 6, 0.9, 2),))
    return encoded(replace(made, challenge=challenge, repeats=repeats, map_scale=MapScale(0.5, 2.0)))


def marks(content: bytes) -> list[int]:
    if content[:1] == b"{":
        return [at for at in range(min(len(content), 3000)) if content[at : at + 1] in b'{}[]",:0123456789']
    return list(range(min(LENGTH_BYTES + 900, len(content))))


@fuzz(300)
@given(st.data())
def test_damage_is_one_error_or_a_calibration(whole, data):
    name = data.draw(st.sampled_from([JSON, ARRAYS]))
    files = whole | {name: data.draw(mutated([whole[name]], 3, marks))}
    try:
        found = decoded(files)
    except ArtifactError as error:
        assert JSON in str(error) or ARRAYS in str(error)
        return
    for group in found.groups:
        assert all((np.diff(scores) >= 0).all() for scores in group.calibrations())
        for view in found.selection.scales.views.tolist():
            assert found.images_of(group, view).pieces > 0
    assert promises(found)
    assert found.group_for(tuple(values[0] for values in found.seen), Fraction("0.1")) is not None
