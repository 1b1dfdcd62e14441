"""Archives by their names: tars that are read, and others, whose images must not be left out silently."""

import re

from pipeline.input.encoded_rows import Fault
from pipeline.storage.compressed import Compression

TARS: dict[str, Compression | None] = {".tar": None, ".tar.gz": "gzip", ".tgz": "gzip", ".tar.zst": "zstd", ".tzst": "zstd"}
"""Suffixes of those that pipeline/sources/tar.py reads."""

KINDS = {  # suffix -> its name in the message
    **{"zip": "zip", "zipx": "zip", "cbz": "zip", "7z": "7z", "rar": "RAR", "cbr": "RAR", "cab": "cab", "arj": "ARJ"},
    **{"lzh": "LHA", "lha": "LHA", "iso": "ISO 9660", "cpio": "cpio", "squashfs": "SquashFS", "wim": "WIM", "dmg": "DMG"},
    **{"txz": "tar.xz", "tbz": "tar.bz2", "tbz2": "tar.bz2", "tb2": "tar.bz2", "tlz": "tar.lzma", "taz": "tar.Z"},
    **{"gz": "gzip", "bz2": "bzip2", "xz": "xz", "zst": "zstd", "lz4": "LZ4", "lz": "lzip", "lzma": "LZMA"},
    **{"tar": "tar", "tgz": "tar.gz", "tzst": "tar.zst", "tfrecord": "TFRecord", "tfrecords": "TFRecord", "arrow": "Arrow"},
}
COMPRESSED = {"gz", "bz2", "xz", "zst", "lz4", "lz", "lzma"}
VOLUME = re.compile(r"\.(?:\d{3}|part[-\w]*)\Z")  # one volume of a split archive
NUMBERED = re.compile(r"\.([zr])\d\d\Z")  # how zip and RAR name their volumes
UNPACK = "Unpack it, or pack its pictures as .tar, .tar.gz, .tar.zst or Parquet"
UNSUPPORTED = "unsupported_archive"


def archive_kind(name: str) -> str | None:
    """The kind of archive by its name, for example `zip` or `tar.xz`; None for anything else.

    The tars that the tar source reads also have a kind: within another archive they are not read.
    """
    name = name.rpartition("/")[2].lower()
    if numbered := NUMBERED.search(name):
        return "split zip" if numbered[1] == "z" else "split RAR"
    whole = VOLUME.sub("", name)
    stem, dot, suffix = whole.rpartition(".")
    if not dot or suffix not in KINDS:
        return None
    inner = stem.rpartition(".")[2]
    kind = f"tar.{suffix}" if suffix in COMPRESSED and inner == "tar" else KINDS[suffix]
    return f"split {kind}" if name != whole else kind


def unsupported(name: str, kind: str, byte_offset: int | None = None) -> Fault:
    """The fault in the row of such an archive."""
    message = f"{name.rpartition('/')[2]!r} is an archive ({kind}) that is not read, with any number of images. {UNPACK}"
    return Fault(UNSUPPORTED, message, byte_offset)
