"""Key patterns of a history, each with a regular expression that says the same, so that the product's reading is checked."""

import re

from small_archive import NULL

_DAY = "{date}/"
_IMAGE = r"(?P<serial>\w+)_(?P<camera>\w+)\.png"
_SWAPPED = r"(?P<cell>[\w-]+)/(?P<camera>\w+)_(?P<serial>\w+)\.png"
_READ = {
    "{line}-{box}/{lot}/{serial}_{camera}.png": rf"(?P<line>\w+)-(?P<box>[\w.]+)/(?P<lot>[\w-]+)/{_IMAGE}",
    "{line}-{box}/{cell}/{serial}_{camera}.png": rf"(?P<line>\w+)-(?P<box>[\w.]+)/(?P<cell>[\w-]+)/{_IMAGE}",
    "{line}-{lot}/{cell}/{camera}_{serial}.png": rf"(?P<line>\w+)-(?P<lot>[\w.]+)/{_SWAPPED}",
    "{lot}/{name}": r"(?P<lot>[\w.-]+)/(?P<name>.+)",
}
BY_DAY = tuple(_DAY + pattern for pattern in _READ)
BY_NONE = tuple(_READ)
_WHOLE = {pattern: re.compile(regex) for pattern, regex in _READ.items()}
_WHOLE |= {_DAY + pattern: re.compile(rf"[\d-]+/{regex}") for pattern, regex in _READ.items()}
FIELDS = ("lot", "line", "serial", "camera", "box", "cell")
_BELOW = re.compile(r".*/input-\d(?:\.\d+)?/(.*)")


def keys_of(pattern: str | None, uri: str, member: str | None) -> dict[str, str]:
    """The fields of an image by its path; none where the pattern does not fit."""
    if pattern is None:
        return {}
    match = _BELOW.fullmatch(uri)
    assert match, uri
    whole = _WHOLE[pattern]
    found = (member and whole.fullmatch(f"{match[1]}/{member}")) or whole.fullmatch(match[1])
    return {name: value for name, value in found.groupdict().items() if value != NULL} if found else {}
