"""Damages valid files: a fuzz test starts from a valid file, so that its examples get deep into a parser.

`make test` runs a bounded number of the same examples each time; `make fuzz` (FUZZ_EXAMPLES) runs others in each round.
"""

import os
import struct
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))
SECONDS_AN_EXAMPLE = 20  # far more than any needs; a longer example did unbounded work
NUMBERS = [0, 1, 2, 3, 8, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, 2**63 - 1, 2**64 - 1]
FORMS = ["<B", "<H", ">H", "<I", ">I", "<Q", ">Q"]
TEXTS = [
    b"",
    b"\0",
    b"-1",
    b"9" * 30,
    b"9" * 5000,
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b"nan",
    b"{",
    b"[" * 1000,
    b"\x80" + b"\x7f" * 11,
]
LENGTHS = [1, 2, 4, 8, 16, 100, 512, 4096]


def fuzz(examples: int) -> settings:
    """Settings of a fuzz test that runs `examples` examples in `make test`."""
    return settings(
        max_examples=EXAMPLES or examples,
        derandomize=not EXAMPLES,
        deadline=timedelta(seconds=SECONDS_AN_EXAMPLE),
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )


def no_marks(_content: bytes) -> list[int]:
    return []


@st.composite
def mutated(
    draw: Callable[[st.SearchStrategy], Any],
    originals: Sequence[bytes],
    most: int = 5,
    marks: Callable[[bytes], list[int]] = no_marks,
) -> bytes:
    """One of the files with 1 to `most` faults; a fault may insert pieces of the other files.

    marks: offsets of a file's structure (fields, chunks, lengths); half of the faults are there.
    """
    content = bytearray(draw(st.sampled_from(originals)))
    for _ in range(draw(st.integers(1, most))):
        deed = draw(st.sampled_from(MUTATIONS))
        found = [mark for mark in marks(bytes(content)) if mark <= len(content)]
        where = st.integers(0, len(content))
        deed(lambda choice: draw(choice), content, originals, where | st.sampled_from(found) if found else where)
    return bytes(content)


def _flip(draw, content, _others, where):
    at = draw(where)
    if at < len(content):
        content[at] ^= 1 << draw(st.integers(0, 7))


def _byte(draw, content, _others, where):
    at = draw(where)
    content[at : at + 1] = bytes([draw(st.integers(0, 255))])


def _cut(draw, content, _others, where):
    del content[draw(where) :]


def _remove(draw, content, _others, where):
    at = draw(where)
    del content[at : at + draw(st.sampled_from(LENGTHS))]


def _erase(draw, content, _others, where):
    at = draw(where)
    piece = content[at : at + draw(st.sampled_from(LENGTHS))]
    content[at : at + len(piece)] = bytes([draw(st.sampled_from([0, 255]))]) * len(piece)


def _repeat(draw, content, _others, where):
    start, at = draw(where), draw(where)
    content[at:at] = content[start : start + draw(st.sampled_from(LENGTHS))]


def _splice(draw, content, others, where):
    other = draw(st.sampled_from(others))
    start = draw(st.integers(0, len(other)))
    piece = other[start : start + draw(st.sampled_from(LENGTHS))]
    at = draw(where)
    content[at : at + draw(st.sampled_from([0, len(piece)]))] = piece


def _number(draw, content, _others, where):
    at, form, number = draw(where), draw(st.sampled_from(FORMS)), draw(st.sampled_from(NUMBERS))
    size = struct.calcsize(form)
    content[at : at + size] = struct.pack(form, number & (1 << 8 * size) - 1)


def _text(draw, content, _others, where):
    at, text = draw(where), draw(st.sampled_from(TEXTS))
    content[at : at + draw(st.sampled_from([0, 1, len(text)]))] = text


MUTATIONS = [_flip, _byte, _cut, _remove, _erase, _repeat, _splice, _number, _text]
