"""What EXIF says about an image: how it is turned and when it was taken."""

import re
import struct
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

from PIL import ExifTags, Image

UPRIGHT = 1
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SIDEWAYS = {5, 6, 7, 8}  # orientations that swap width and height
TIME = re.compile(r"(\d{4}):(\d{2}):(\d{2}) (\d{2}):(\d{2}):(\d{2})")
OFFSET = re.compile(r"([+-])(\d{2}):(\d{2})")
BROKEN = (SyntaxError, struct.error, ValueError, TypeError, KeyError, IndexError, EOFError, OSError, ZeroDivisionError)


def orientation(image: Image.Image) -> int:
    """EXIF orientation still to be applied, 1 to 8; 1 when there is none or it cannot be read."""
    if image.format == "TIFF":  # Pillow turns these when it loads them, and reports the turned size
        return UPRIGHT
    try:
        found = image.getexif().get(ExifTags.Base.Orientation, UPRIGHT)
    except BROKEN:
        return UPRIGHT
    return found if found in TURNS else UPRIGHT


def captured_at(image: Image.Image, zone: str) -> datetime | None:
    """DateTimeOriginal in UTC; its own offset tag counts, else the time zone `zone`. None when unknown or broken."""
    try:
        tags = image.getexif().get_ifd(ExifTags.IFD.Exif)
        time = TIME.fullmatch(_text(tags.get(ExifTags.Base.DateTimeOriginal)))
        if time is None:
            return None
        fraction = re.match(r"\d{1,6}", _text(tags.get(ExifTags.Base.SubsecTimeOriginal)))
        offset = OFFSET.fullmatch(_text(tags.get(ExifTags.Base.OffsetTimeOriginal)))
        microsecond = int(fraction[0].ljust(6, "0")) if fraction else 0
        year, month, day, hour, minute, second = (int(part) for part in time.groups())
        taken = datetime(year, month, day, hour, minute, second, microsecond, _zone(offset, zone))
        return taken.astimezone(UTC)
    except (*BROKEN, OverflowError):
        return None


def _zone(offset: re.Match[str] | None, zone: str) -> timezone | ZoneInfo:
    if offset is None:
        return ZoneInfo(zone)
    minutes = int(offset[2]) * 60 + int(offset[3])
    return timezone(timedelta(minutes=-minutes if offset[1] == "-" else minutes))


def _text(tag: object) -> str:
    if isinstance(tag, bytes):
        tag = tag.decode("ascii", "replace")
    return str(tag or "").strip(" \0")
