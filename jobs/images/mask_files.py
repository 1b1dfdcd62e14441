"""Assigns the files below ground_truth/ to images, by their names.

The mask of test/hole/000.png is, in ground_truth/hole, 000_mask.png or 000.png, with the suffix of any format that is read and
in upper or lower case, or all files of the folder 000, as in MVTec LOCO.
"""

import os
from collections import Counter, defaultdict
from pathlib import Path, PurePosixPath

from jobs.command.errors import UsageError
from jobs.images.folder_walk import as_key, walked
from pipeline.input.keys import ignored

GROUND_TRUTH = "ground_truth"
MASK = "_mask"
SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"}
NO_LABELS = {".db", ".ini", ".md"}  # systems and people leave these in folders; they are never masks in another format
NAMES = "Name it as its image, as that name and _mask, or put it into a folder of that name."


def stem_of(key: str) -> str:
    """The key without its suffix."""
    return str(PurePosixPath(key).with_suffix(""))


def mask_of(stem: str) -> str | None:
    """The stem without `_mask`, which is the image's; None for other names."""
    return stem[: -len(MASK)] if stem.lower().endswith(MASK) else None


class MaskFiles:
    """The files below ground_truth/; each belongs to one image or to none.

    there: whether the folder exists.  other: counts of files in formats that are not read, by suffix.
    """

    def __init__(self, root: Path) -> None:
        self.folder = root / GROUND_TRUTH
        self.there = self.folder.is_dir()
        self.other: Counter[str] = Counter()
        self._paths: dict[str, Path] = {}
        self._owner: dict[str, str] = {}
        self._by_stem: defaultdict[str, list[str]] = defaultdict(list)
        self._by_folder: defaultdict[str, list[str]] = defaultdict(list)
        for path in sorted(walked(self.folder)) if self.there else []:
            self._add(as_key(path), self.folder / os.fsdecode(path))

    def of(self, key: str) -> tuple[Path, ...]:
        """The mask files of the image whose path below test/ is `key`; raises UsageError if several answers are possible."""
        stem = stem_of(key)
        named, inside = self._by_stem[stem], self._by_folder[stem]
        found = named + inside
        if len(named) > 1 or (named and inside):
            raise UsageError(f"the mask of test/{key}", "one file, or all files of one folder", found, "Remove the others.")
        for mask in found:
            if mask in self._owner:
                both = [f"test/{self._owner[mask]}", f"test/{key}"]
                raise UsageError(f"ground_truth/{mask}", "the mask of one image", both, "Rename or remove one of them.")
            self._owner[mask] = key
        return tuple(self._paths[mask] for mask in found)

    def check(self, defect_types: list[str]) -> None:
        """Raises UsageError if no mask of a type is named after an image. Call it after `of` for all images."""
        strangers = self.strangers()
        for kind in defect_types:
            mine = [mask for mask in strangers if mask.startswith(f"{kind}/")]
            if mine and not any(mask.startswith(f"{kind}/") for mask in self._owner):
                raise UsageError(f"ground_truth/{mine[0]}", f"named after an image of test/{kind}", mine[0], NAMES)
        if strangers and not self._owner:
            raise UsageError("ground_truth/", "the masks of the images below test/", strangers[0], NAMES)

    def strangers(self) -> list[str]:
        """Paths below ground_truth/ of the masks that belong to no image."""
        return [mask for mask in self._paths if mask not in self._owner]

    def lines(self) -> list[str]:
        """Sentences about files that were not used."""
        lines = [] if self.there else ["there is no folder ground_truth/, so no defect has a mask"]
        if strangers := self.strangers():
            lines.append(f"masks that belong to no image: {len(strangers)}, such as ground_truth/{strangers[0]}")
        if self.other:
            kinds = ", ".join(f"{count} {suffix}" for suffix, count in self.other.most_common())
            lines.append(f"files in ground_truth/ of formats that are not read as masks: {kinds}")
        return lines

    def _add(self, key: str, path: Path) -> None:
        stem, suffix = stem_of(key), PurePosixPath(key).suffix.lower()
        if ignored(f"{stem}.png"):  # hidden: `ignored(key)` also holds for labels, which are to be counted
            return
        if suffix not in SUFFIXES:
            if suffix not in NO_LABELS:
                self.other[suffix or "without suffix"] += 1
            return
        self._paths[key] = path
        self._by_stem[stem].append(key)
        image = mask_of(stem)
        if image is not None:
            self._by_stem[image].append(key)
        self._by_folder[key.rpartition("/")[0]].append(key)
