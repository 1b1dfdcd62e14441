"""Reads a path: key columns by a pattern, and names that are never images."""

import functools
import re

from schemas import errors, scores

FIELD = re.compile(r"\{([^{}]*)\}")
NAME = re.compile(r"[a-z][a-z0-9_]*")
REST = "name"  # the one field that may hold slashes
TAKEN = {*scores.SCHEMA.names, *errors.SCHEMA.names} - {"date", "lot"}
SIDECARS = (
    "json txt cls csv xml yaml yml npy idx md jsn jsonl ndjson tsv text transcript cls2 index inx id "
    "npz pyd pickle pkl pth ten mp msg cbor"
)
PACKED = "gz bz2 xz zst"  # may follow the suffix of a sidecar
LITTER = "_success _metadata _common_metadata thumbs.db ehthumbs.db desktop.ini"
LITTER_FOLDERS = "@eadir @__thumb @recycle #recycle $recycle.bin __macosx lost+found"
OWN = "_flowscore _delta_log"
HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"  # how Hive, Spark and DuckDB write a folder whose value is null


def _one_of(names: str) -> str:
    return "|".join(map(re.escape, names.split()))


# Matches a key in lower case that is a directory marker, a sidecar or litter, or has a segment that is ours, names litter's
# folder, or begins with a dot and is not . or ..
IGNORED = re.compile(
    rf"/\Z|\.(?:{_one_of(SIDECARS)})(?:\.(?:{_one_of(PACKED)}))?\Z"
    rf"|(?:\A|/)(?:(?:{_one_of(LITTER)})\Z|(?:{_one_of(OWN)}|{_one_of(LITTER_FOLDERS)})(?:/|\Z)|\.(?!\.?(?:/|\Z)))"
)


class KeyPattern:
    """A pattern such as `{line}/{date}/{lot}/{name}` or `{product}-{lot}/{name}.jpg`, matched against a whole key.

    A field takes at least one character, no slash and as few as it can; `{name}` may hold slashes. The rest is literal
    text.
    """

    def __init__(self, pattern: str):
        self.pattern = pattern
        pieces = FIELD.split(pattern)  # literal, field, literal, field, ..., literal
        self.fields = pieces[1::2]
        self._check(pieces)
        self._whole = re.compile(_regex(pieces), re.DOTALL)
        self._upto_date = re.compile(_regex_upto_date(pieces), re.DOTALL) if "date" in self.fields else None

    def match(self, key: str) -> dict[str, str] | None:
        """Values by field, or None when the key does not fit. For a shard: key, slash, member name."""
        match = self._whole.fullmatch(key)
        return match.groupdict() if match else None

    def shard_date(self, key: str) -> str | None:
        """The date by the path of a shard, whatever the shard holds; None when the path has none."""
        match = self._upto_date.match(key) if self._upto_date else None
        return match["date"] if match else None

    def _check(self, pieces: list[str]) -> None:
        for literal in pieces[0::2]:
            if "{" in literal or "}" in literal:
                self._refuse("have its braces in pairs", "Write fields as {lot}.")
        for field in self.fields:
            if not NAME.fullmatch(field):
                self._refuse(f"name fields in lower case letters, digits and _; {field!r} is not", "Rename that field.")
            if field in TAKEN:
                self._refuse(f"not use the name of a table column; {field!r} is one", "Rename that field.")
        if not self.fields:
            self._refuse("hold at least one field", "Write for example {line}/{date}/{lot}/{name}.")
        if len(set(self.fields)) < len(self.fields):
            self._refuse("use every field once", "Rename the second one.")
        if "" in pieces[2:-1:2]:
            self._refuse("have text between two fields", "Put a slash or another separator between them.")

    def _refuse(self, rule: str, fix: str) -> None:
        raise ValueError(f"key_pattern must {rule}; got {self.pattern!r}. {fix}")


@functools.lru_cache(maxsize=16)
def key_pattern(pattern: str) -> KeyPattern:
    """The compiled pattern. Raises ValueError, which says what is wrong."""
    return KeyPattern(pattern)


def ignored(key: str) -> bool:
    """Whether a key or member name is hidden, a sidecar (labels, notes, indexes), litter (thumbnails that file servers and
    desktops leave) or state of ours, never an image."""
    return IGNORED.search(key.lower()) is not None


def is_null(value: str) -> bool:
    """Whether a value of a path is null as Hive writes it, with or without `key=` before it."""
    return value == HIVE_NULL or value.endswith(f"={HIVE_NULL}")


def _regex(pieces: list[str]) -> str:
    """A field and the text behind it match at the first place or not at all (`(?>`): a longer match would leave less to
    later fields, and trying it takes time of the key's length to the power of the number of fields."""
    regex = re.escape(pieces[0])
    for index in range(1, len(pieces), 2):
        field, literal = pieces[index], re.escape(pieces[index + 1])
        followed = index + 2 < len(pieces)
        if field == REST:
            regex += f"(?P<{field}>.+){literal}"
        else:
            regex += f"(?>(?P<{field}>[^/]+?){literal})" if followed else f"(?P<{field}>[^/]+?){literal}"
    return regex


def _regex_upto_date(pieces: list[str]) -> str:
    """The pattern up to the end of the path segment that holds the date; a shard's key may end there or continue."""
    index = 2 * pieces[1::2].index("date") + 1
    while "/" not in pieces[index + 1]:
        index += 2
        if index >= len(pieces):
            return _regex(pieces) + r"\Z"
    literal = pieces[index + 1].partition("/")[0]
    return _regex([*pieces[: index + 1], literal]) + (r"(?:/|\Z)" if literal else "/")
