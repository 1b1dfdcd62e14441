"""One text for equal documents: what is hashed, and what is compared or written so that equal things have equal bytes."""

import json


def canonical_json(document: object, indent: int | None = None) -> str:
    """JSON with sorted keys, floats with every digit they need to be read back exactly, and no NaN.

    Args:
        indent: None: one line without spaces. Otherwise a line an entry, for files that people read.

    >>> canonical_json({"b": 0.1, "a": [1, None]})
    '{"a":[1,null],"b":0.1}'
    """
    separators = (",", ":") if indent is None else (",", ": ")
    return json.dumps(document, sort_keys=True, indent=indent, separators=separators, ensure_ascii=False, allow_nan=False)
