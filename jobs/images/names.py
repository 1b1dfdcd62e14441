"""Compares names of images as people write them in lists, and finds the image that a misspelt name may mean."""

import difflib
import unicodedata
from collections.abc import Iterable

MOST_SHOWN = 5
MOST_COMPARED = 20_000  # takes a second; among more names only the same file name is looked for


def plain(name: str) -> str:
    """A name in the form for comparing: macOS separates letters from their accents, other systems do not."""
    return unicodedata.normalize("NFC", name)


def spellings(line: str) -> set[str]:
    """The names that a line may mean: itself, without quotes, with `/` for the `\\` of Windows, without `./`."""
    found = {line}
    if len(line) > 1 and line[0] == line[-1] == '"':
        found.add(line[1:-1].replace('""', '"'))
    found |= {name.replace("\\", "/") for name in found}
    found |= {name.removeprefix("./") for name in found}
    return {plain(name) for name in found}


def meant(lines: Iterable[str], known: Iterable[str]) -> str:
    """Up to five of the lines, each with its nearest known name: `a.jpg (did you mean x/a.jpg?), ...`."""
    lines, known = list(lines), sorted(known)
    shown = []
    for line in lines[:MOST_SHOWN]:
        near = nearest(line, known)
        shown.append(f"{line!r} (did you mean {near!r}?)" if near else repr(line))
    more = len(lines) - MOST_SHOWN
    return ", ".join(shown) + (f" and {more:,} more" if more > 0 else "")


def nearest(name: str, known: list[str]) -> str | None:
    """The known name with the same file name, else the most similar one; None if none is similar."""
    name = min(spellings(name), key=len)
    end = name.rpartition("/")[2].casefold()
    same_end = next((other for other in known if plain(other).rpartition("/")[2].casefold() == end), None)
    if same_end is not None or len(known) > MOST_COMPARED:
        return same_end
    return next(iter(difflib.get_close_matches(name, known, n=1)), None)
