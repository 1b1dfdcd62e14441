import pytest

from schemas.commit import VERSION
from schemas.footer import LATER, Footer, StageSeconds
from schemas.scored_on import ScoredOn

FOOTER = Footer(
    unit_id="u" * 32,
    slice=2,
    number=3,
    part=1,
    date="2026-01-01",
    scored=5,
    errors=1,
    next_offset=None,
    device="cuda-bf16",
    hardware="NVIDIA L4, torch 2",
    one_by_one=True,
    scoring_version=5,
    bytes_read=54,
    ignored=2,
    seconds=StageSeconds(read=0.1, wait=1e-9),
)
TEXTS = {
    "version": str(VERSION),
    "unit_id": "u" * 32,
    "slice": "2",
    "number": "3",
    "part": "1",
    "date": "2026-01-01",
    "scored": "5",
    "errors": "1",
    "next_offset": "end",
    "device": "cuda-bf16",
    "hardware": "NVIDIA L4, torch 2",
    "one_by_one": "True",
    "scoring_version": "5",
    "bytes_read": "54",
    "ignored": "2",
    "seconds": (
        '{"read": 0.1, "decode": 0.0, "copy": 0.0, "score": 0.0, "load": 0.0, "wait": 1e-09, "host": 0.0, "commit": 0.0}'
    ),
}


def test_a_footer_is_written_and_read():
    assert FOOTER.texts() == TEXTS
    assert Footer.parse(TEXTS | {"of another program": "x"}) == FOOTER
    assert Footer.parse(TEXTS | {"next_offset": "512"}).next_offset == 512


@pytest.mark.parametrize(
    "damage",
    [
        {"number": "x"},
        {"scoring_version": ""},
        {"next_offset": ""},
        {"next_offset": "END"},
        {"seconds": "{"},
        {"seconds": "[]"},
        {"seconds": "1"},
        {"seconds": '{"nap": 1}'},
    ],
)
def test_what_is_no_footer_is_refused(damage):
    with pytest.raises((ValueError, TypeError)):
        Footer.parse(TEXTS | damage)


def test_a_commit_of_an_earlier_version_does_not_say_its_hardware():
    earlier = Footer.parse({key: text for key, text in TEXTS.items() if key not in LATER})
    assert earlier.scored_on == ScoredOn("cuda-bf16", "", False)


@pytest.mark.parametrize("name", sorted(TEXTS.keys() - set(LATER)))
def test_every_entry_must_be_there(name):
    with pytest.raises(KeyError, match=name):
        Footer.parse({key: text for key, text in TEXTS.items() if key != name})
