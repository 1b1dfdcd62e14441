"""The setting `members`: patterns for the names of images to read."""

import fnmatch
import functools
import re


class NameFilter:
    """Patterns such as `*.jpg` or `*.jpg,photos/*.png`, of which one must fit; case does not matter.

    `*`, `?` and `[abc]` mean the same as in a shell. A pattern without a slash is compared with the last segment of a name, one
    with a slash with the whole name, where `*` also matches slashes.
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
    """WebDataset's key of a sample: the path up to the first dot of its last segment."""
    folder, slash, last = name.rpartition("/")
    return folder + slash + last.partition(".")[0]
