"""Every case: docs/formats.md and the tests of the decoder are made from them."""

from functools import cache

from format_cases import bmp_cases, jpeg_cases, others, png_cases, tiff_directories, tiff_grid, tiff_kinds
from format_cases.case import Case

MODULES = (jpeg_cases, png_cases, bmp_cases, tiff_grid, tiff_kinds, tiff_directories, others)


@cache
def cases() -> dict[str, tuple[Case, ...]]:
    """The cases by the name of their module."""
    return {module.__name__.rpartition(".")[2]: tuple(module.cases()) for module in MODULES}


def all_cases() -> list[Case]:
    return [case for part in cases().values() for case in part]
