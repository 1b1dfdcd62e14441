"""Any key pattern and name gives an answer at once, or the one documented error."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mutations import fuzz
from pydantic import ValidationError

from pipeline.input.config import SourceConfig
from pipeline.input.encoded_rows import EncodedRows, Fault
from pipeline.input.keys import FIELD, KeyPattern, ignored

PIECES = [
    "{line}",
    "{date}",
    "{lot}",
    "{name}",
    "{a}",
    "{b}",
    "/",
    "-",
    "_",
    "--",
    ".jpg",
    "x",
    "{",
    "}",
    "{A}",
    "(",
    "\\",
    "é",
]
patterns = st.lists(st.sampled_from(PIECES), max_size=9).map("".join)
texts = st.text("/-_.xaé\n\0", max_size=24) | st.text(max_size=12)
ROWS = st.text("/-_.x", max_size=8).map(lambda text: text * 3000)


def compiled(pattern: str) -> KeyPattern | None:
    try:
        return KeyPattern(pattern)
    except ValueError as error:
        assert str(error).startswith("key_pattern must ") and repr(pattern) in str(error)
        return None


@fuzz(300)
@given(patterns | texts)
def test_a_pattern_is_refused_in_a_sentence_or_accepted(pattern):
    accepted = compiled(pattern) is not None
    try:
        SourceConfig(input_uri="s3://bucket", key_pattern=pattern)
    except ValidationError:
        assert not accepted
    else:
        assert accepted


@fuzz(300)
@given(patterns.filter(compiled), st.data())
def test_a_key_made_from_a_pattern_is_read_back(pattern, data):
    pieces = FIELD.split(pattern)
    words = {
        field: data.draw(st.text("x-_é/" if field == "name" else "x-_é", min_size=1, max_size=5)) for field in pieces[1::2]
    }
    pieces[1::2] = [words[field] for field in pieces[1::2]]
    key = "".join(pieces)
    found = KeyPattern(pattern).match(key)
    assert found is not None and found.keys() == words.keys()
    rebuilt = re.sub(FIELD, lambda field: found[field[1]], pattern)
    assert rebuilt == key and all(found.values())
    assert not any("/" in text for field, text in found.items() if field != "name")


@fuzz(300)
@given(patterns.filter(compiled), texts)
def test_fields_are_the_shortest_that_fit(pattern, key):
    """Tries all ways to read a key: the class promises the one with the shortest first field, then second, and so on."""

    def readings(pieces: list[str], rest: str) -> list[tuple[str, ...]]:
        if not rest.startswith(pieces[0]):
            return []
        rest = rest[len(pieces[0]) :]
        if len(pieces) == 1:
            return [()] if not rest else []
        lengths = range(1, len(rest) + 1)
        if pieces[1] == "name":
            lengths = range(len(rest), 0, -1)
        for length in lengths:
            if "/" not in rest[:length] or pieces[1] == "name":
                for reading in readings(pieces[2:], rest[length:]):
                    return [(rest[:length], *reading)]
        return []

    found = KeyPattern(pattern).match(key)
    assert readings(FIELD.split(pattern), key) == ([tuple(found.values())] if found else [])


@pytest.mark.timeout(60)
@fuzz(100)
@given(patterns.filter(compiled), ROWS)
def test_a_long_name_takes_no_longer_than_its_length_asks(pattern, key):
    pattern = KeyPattern(pattern)
    pattern.match(key), pattern.shard_date(key)


@fuzz(200)
@given(texts, st.none() | texts, st.sampled_from([None, "{line}/{name}", "{date}/{lot}-{name}"]), st.booleans())
def test_any_name_makes_a_row(key, member, pattern, lost):
    ignored(key)
    rows = EncodedRows("s3://bucket", SourceConfig(input_uri="s3://bucket", key_pattern=pattern))
    rows.add(key, Fault("gone", "x") if lost else b"x", None, member)
    (row,) = rows.table().to_pylist()
    assert len(row["image_id"]) == 32 and row["member"] == member
