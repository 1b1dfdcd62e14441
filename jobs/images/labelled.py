"""Labelled images in the MVTec layout: test/good, test/<defect type>, and the masks of the defects below ground_truth/.

Folders and files may be links to any place, since people split data sets by links.
"""

import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from jobs.command.errors import UsageError
from jobs.images.folder_walk import as_key, walked
from jobs.images.mask_files import MaskFiles, mask_of, stem_of
from pipeline.input.config import SourceConfig
from pipeline.input.encoded_rows import EncodedRows, Fault
from pipeline.input.keys import ignored
from pipeline.input.registry import LAST, claiming

TEST = "test"
GOOD = "good"
ALL = "all"
"""The name of the figures over all defect types."""
LAYOUT = "Put images into test/good and test/<defect type>, and masks into ground_truth/<defect type>."


class LabelledImage(NamedTuple):
    """One image of the set. key: its path below test/.  masks: the files whose union is its mask; may be empty."""

    key: str
    defect_type: str
    path: Path
    masks: tuple[Path, ...]


@dataclass(frozen=True)
class LabelledSet:
    """Everything below test/, in the order of its keys.

    types: folders with images, including `good`.  empty_types: folders without images.
    loose: names directly in test/, which belong to no type.  mask_files: the files below ground_truth/.
    """

    root: Path
    types: list[str]
    images: list[LabelledImage]
    empty_types: list[str]
    loose: list[str]
    mask_files: MaskFiles

    def lines(self) -> list[str]:
        """Sentences about folders and files that are no part of the figures."""
        lines = []
        if self.empty_types:
            lines.append(f"folders without images, left out: {', '.join(f'test/{name}' for name in self.empty_types)}")
        if self.loose:
            lines.append(f"files directly in test/, of no type and left out: {len(self.loose)}, such as {self.loose[0]}")
        return lines + self.mask_files.lines()


def labelled_set(root: Path) -> LabelledSet:
    """The images below the root's test/ with their mask files; opens none of them.

    Raises:
        UsageError: test/good or all other types have no image, or archives or masks are among the images.
    """
    folders, loose = _entries(root)
    keys = {kind: _image_keys(root, kind) for kind in folders}
    _check_types(keys, os.fspath(root))
    types = [kind for kind in folders if keys[kind]]
    masks = MaskFiles(root)
    images = [
        LabelledImage(key, kind, root / TEST / os.fsdecode(path), masks.of(key))
        for kind in types
        for key, path in keys[kind].items()
    ]
    masks.check([kind for kind in types if kind != GOOD])
    empty = [kind for kind in folders if not keys[kind]]
    return LabelledSet(root, types, sorted(images, key=lambda image: image.key), empty, loose, masks)


def check_listed(keys: Iterable[str], place: str) -> None:
    """What labelled_set refuses of a set in storage, by the keys below its address: it is said before they are copied."""
    types: dict[str, list[str]] = {}
    for key in keys:
        top, _, path = key.partition("/")
        kind, _, name = path.partition("/")
        if top == TEST and kind and name and not ignored(f"{kind}/-"):
            types.setdefault(kind, [])
            if not ignored(path):
                types[kind].append(path)
    _check_types(types, place)


def check_both_scored(images: dict[str, int], where: str) -> None:
    """Raises UsageError if no good image or no defect was scored, since there is nothing to compare."""
    if not images.get(GOOD) or not sum(count for kind, count in images.items() if kind != GOOD):
        raise UsageError(
            "--input", "a folder with good images and defects that can be read", f"{where} with {images} scored", "Repair them."
        )


def encoded_parts(labelled: LabelledSet) -> Iterator[tuple[list[LabelledImage], pa.Table]]:
    """Yields some images at a time, with their rows of schemas/encoded.py in the same order."""
    config = SourceConfig(input_uri=str(labelled.root / TEST))
    rows = EncodedRows(Path(os.path.abspath(labelled.root / TEST)).as_uri(), config)
    part: list[LabelledImage] = []
    for image in labelled.images:
        content = _content(image.path, config.max_member_bytes)
        if rows.full_before(content):
            yield part, rows.table()
            part = []
        part.append(image)
        rows.add(image.key, content, None if isinstance(content, Fault) else len(content))
    if part:
        yield part, rows.table()


def _entries(root: Path) -> tuple[list[str], list[str]]:
    """Names of the folders directly in test/, and of the files there; litter is left out of both."""
    test = root / TEST
    if not test.is_dir():
        return [], []
    entries = sorted(test.iterdir())
    folders = [entry.name for entry in entries if entry.is_dir() and not ignored(f"{entry.name}/-")]
    loose = [as_key(os.fsencode(entry.name)) for entry in entries if not entry.is_dir() and not ignored(entry.name)]
    places = Counter(os.path.realpath(test / kind) for kind in folders)
    twice = [kind for kind in folders if places[os.path.realpath(test / kind)] > 1]
    if twice:
        raise UsageError(
            "--input", "a folder whose types are different folders", twice, "Remove one: it is a link to the other."
        )
    return folders, loose


def _image_keys(root: Path, kind: str) -> dict[str, bytes]:
    """Every image of a type: its path below test/, by key."""
    paths = [os.fsencode(kind) + b"/" + path for path in walked(root / TEST / kind)]
    return {key: path for path in paths if not ignored(key := as_key(path))}


def _check_types(types: Mapping[str, Collection[str]], where: str) -> None:
    """types: the keys of each type's images below test/.  where: the set, for the message."""
    if ALL in types:
        rule = "a folder without a type `all`, which names the figures over all types"
        raise UsageError("--input", rule, f"test/{ALL}", "Rename that folder.")
    for kind, keys in types.items():
        for key in keys:
            if claiming(key) != LAST:
                raise UsageError("--input", "a folder of loose images", f"test/{key}", "Unpack the archive into this folder.")
        stems = {stem_of(key) for key in keys}
        for key in keys:
            if mask_of(stem_of(key)) in stems:
                fix = f"Move masks to ground_truth/{kind}."
                raise UsageError("--input", "a folder with masks only below ground_truth/", f"test/{key}", fix)
    if not types.get(GOOD) or sum(bool(keys) for keys in types.values()) < 2:
        counts = ", ".join(f"{len(keys)} in test/{kind}" for kind, keys in types.items())
        rule = "a folder in the MVTec layout, with images in test/good and in at least one test/DEFECT"
        raise UsageError("--input", rule, f"{where} with {counts}" if counts else where, LAYOUT)


def _content(path: Path, max_bytes: int) -> bytes | Fault:
    try:
        size = path.stat().st_size
        if size > max_bytes:
            return Fault("too_large", f"the image has {size} bytes; the limit is {max_bytes}")
        return path.read_bytes()
    except OSError as error:  # a broken link, or no right to read it
        return Fault("gone", f"the image cannot be read: {error.strerror}")
