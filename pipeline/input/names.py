"""Which names of images a person asks for: the setting `members`."""

import fnmatch
import functools
import re


class NameFilter:
    """Patterns such as `*.jpg` or `*.jpg,photos/*.png`, any of which may fit; upper and lower case are the same.

    `*`, `?` and `[abc]` stand for characters as in a shell. A pattern without a slash is held against the last part of a name,
    one with a slash against all of it, where `*` takes slashes too.
    """

    def __init__(self, patterns: str) -> None:
        self._patterns = [pattern.strip().lower().removeprefix("./") for pattern in patterns.split(",")]
        if "" in self._patterns:
            raise ValueError(f"members must be patterns with a comma between them; got {patterns!r}. Write for example *.jpg.")
        self._regexes = [("/" in pattern, re.compile(fnmatch.translate(pattern))) for pattern in self._patterns]

    def takes(self, name: str) -> bool:
        """Whether one of the patterns fits the name of a loose file (its key) or of a member."""
        whole = name.lower().removeprefix("./")
        last = whole.rpartition("/")[2]
        return any(regex.match(whole if has_slash else last) for has_slash, regex in self._regexes)


@functools.lru_cache(maxsize=16)
def name_filter(patterns: str) -> NameFilter:
    """The filter of these patterns, compiled once. Raises ValueError."""
    return NameFilter(patterns)


def dataset_key(name: str) -> str:
    """What WebDataset takes for one sample's key: the path up to the first dot of its last part."""
    folder, slash, last = name.rpartition("/")
    return folder + slash + last.partition(".")[0]
