"""A table of texts for a terminal."""

from collections.abc import Sequence


def aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    """The lines, of equally many cells each, with columns of equal width, two blanks apart.

    >>> aligned([["type", "images"], ["a longer name", "3"]])
    ['type           images', 'a longer name  3']
    """
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return ["  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in lines]
