"""The ways of docs/benchmarks/reliability/bad_archive.py to be bad are errors of the decoder by the names that stand there."""

import docs_script
import pytest

from pipeline.decode.config import DecodeConfig
from pipeline.decode.faults import Undecodable
from pipeline.decode.image import decode_image

bad_archive = docs_script.load("benchmarks/reliability/bad_archive.py")
WAYS = [
    way
    for way in bad_archive.CONTENTS
    if way.stage == "decode" and way.error not in ("empty", "too_much_memory")  # found before decoding; only in a sandbox
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.way)
def test_a_way_to_be_bad_has_its_error(way):
    with pytest.raises(Undecodable) as raised:
        decode_image(way.spoil(7), DecodeConfig(height=32, width=32))
    assert raised.value.error == way.error
