"""Equal documents become equal bytes, so that they can be hashed, compared and written."""

import json


def canonical_json(document: object, indent: int | None = None) -> str:
    """JSON with sorted keys, floats with every digit they need to be read back exactly, and no NaN.

    Args:
        indent: None gives one line without spaces; a number gives one line per entry, for files that people read.

    >>> canonical_json({"b": 0.1, "a": [1, None]})
    '{"a":[1,null],"b":0.1}'
    """
    separators = (",", ":") if indent is None else (",", ": ")
    return json.dumps(document, sort_keys=True, indent=indent, separators=separators, ensure_ascii=False, allow_nan=False)
