"""Prints docs/formats.md from what the decoder does with the pictures of tests/format_cases: `make tables` writes it, a test
fails when it is out of date."""

import sys
from collections import defaultdict
from pathlib import Path

PAGE = Path(__file__).with_name("formats.md")
OTHERS = "Other formats"
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from format_cases.all_cases import all_cases  # noqa: E402  # below the path that leads there
from format_cases.case import Case  # noqa: E402

from pipeline.decode.config import DecodeConfig  # noqa: E402
from pipeline.decode.faults import Undecodable  # noqa: E402
from pipeline.decode.formats.first_bytes import READ  # noqa: E402
from pipeline.decode.image import decode_image  # noqa: E402

INTRODUCTION = """# Formats

Written by `make tables` from the {count:,} pictures of tests/format_cases, each of which a test compares with what an
independent reader gives, or with the samples that it was made of. JPEG, PNG, BMP and TIFF are read. Everything else, and
every kind of these four that is not read, is a row in `errors` that names the kind; none is scored as something else.

- Grey of 16 bits is scaled so that `white_level` is 255; it is 65535 unless `flowscore train --white-level` says otherwise, and
  the model keeps it. Files that name fewer bits (TIFF of 12 bits, PNG with `sBIT`) are scaled by those.
- Colour of 16 bits keeps its high byte. Alpha and transparent colours are composed over black. A picture without one
  opaque pixel is the error `wholly_transparent`, unless the format leaves open whether its fourth channel is used.
- Of a TIFF with thumbnails or reductions the full picture is read, wherever it stands.
- A JPEG that libjpeg warns of is the error `corrupt` or `truncated`; up to 16 bytes of padding (0 or 255) before its end are
  no damage. A JPEG has no checksum: damage that leaves its codes valid cannot be noticed.
"""


def page() -> str:
    """The whole of docs/formats.md."""
    by_format: dict[str, dict[tuple[str, str], list[Case]]] = defaultdict(lambda: defaultdict(list))
    count = 0
    for case in all_cases():
        count += 1
        by_format[case.format if case.format in READ else OTHERS][_row(case)].append(case)
    sections = (_section(name, by_format[name]) for name in (*READ, OTHERS))
    return INTRODUCTION.format(count=count) + "".join(sections)


def _row(case: Case) -> tuple[str, str]:
    return case.kind if case.format in READ else case.format, _verdict(case)


def _section(name: str, rows: dict[tuple[str, str], list[Case]]) -> str:
    lines = []
    for (kind, verdict), found in rows.items():
        layouts = "; ".join(dict.fromkeys(case.layout for case in found if case.layout))
        packings = "; ".join(dict.fromkeys(case.compression for case in found if case.compression))
        lines.append(f"| {kind} | {layouts} | {packings} | {verdict} |\n")
    return f"\n## {name}\n\n| kind | layout | packed | |\n|---|---|---|---|\n" + "".join(lines)


def _verdict(case: Case) -> str:
    height, width = (8, 8) if case.pixels is None else case.pixels.shape[:2]
    try:
        decode_image(case.content, DecodeConfig(height=height, width=width, white_level=case.white_level))
    except Undecodable as fault:
        return f"`{fault.error}`: {str(fault).partition('; docs/')[0].partition(', which is not')[0]}"
    return "read"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
