"""The good images that a model is trained on, read once: pixels and features to disk, the rest in memory."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from jobs.decoded_images import check_unreadable, decoded_units
from jobs.errors import UsageError
from jobs.progress import Progress
from models.features import ImageFeatures
from models.groups import thumbnails
from pipeline.decode import DecodeConfig
from pipeline.sources.config import SourceConfig

MIN_IMAGES = 8
EXTRACT_BATCH = 16


class Exclusions:
    """The images that a person has taken out: one key, URI or content hash a line; # starts a comment."""

    def __init__(self, path: Path | None):
        self.names: set[str] = set()
        if path is not None:
            try:
                lines = path.read_text(encoding="utf-8").splitlines()
            except OSError as error:
                raise UsageError("--exclude", "a readable text file", str(path), f"{error.strerror}.") from error
            self.names = {line.strip() for line in lines} - {""}
            self.names = {name for name in self.names if not name.startswith("#")}
        self.used: set[str] = set()

    def __contains__(self, row: dict) -> bool:
        found = {row["key"], row["uri"], row["content_hash"]} & self.names
        self.used |= found
        return bool(found)

    def unused(self) -> set[str]:
        """Lines that fitted no image; most often misspelt."""
        return self.names - self.used


@dataclass
class GoodSet:
    """The good images, in key order: what training keeps of each beside pixels and features."""

    hashes: list[str]
    group_keys: list[str | None]
    thumbs: np.ndarray
    unreadable: Counter[str]
    excluded: int


def read_good_images(
    source: SourceConfig,
    images: ImageFeatures,
    exclusions: Exclusions,
    group_key: str | None,
    max_unreadable_share: float,
) -> GoodSet:
    """Read every image once and add it to `images`; what cannot be read is counted and left out.

    Raises:
        ErrorShareError: more than max_unreadable_share of the images could not be read.
        UsageError: too few images, or images without the group key.
    """
    size = images.detector.config.input
    decode = DecodeConfig(height=size.height, width=size.width, resize=size.resize)
    read = GoodSet([], [], np.zeros((0, 1024), np.float16), Counter(), 0)
    thumbs: list[np.ndarray] = []
    total = 0
    with Progress("reading and extracting features", total=None) as progress:
        for unit in decoded_units(source, decode):
            keep = []
            for position, row in enumerate(unit.table.drop_columns(["captured_at"]).to_pylist()):
                total += 1
                if row["error"] is not None:
                    read.unreadable[row["error"]] += 1
                elif row in exclusions:
                    read.excluded += 1
                else:
                    keep.append(position)
                    read.hashes.append(row["content_hash"])
                    keys = source.keys(row["key"]) | dict(row["keys"]) | {"lot": row["lot"]}
                    read.group_keys.append(keys.get(group_key or "lot"))
            for start in range(0, len(keep), EXTRACT_BATCH):
                batch = torch.from_numpy(unit.pixels[keep[start : start + EXTRACT_BATCH]])
                images.append(batch)
                thumbs.append(thumbnails(batch).astype(np.float16))
            progress.update(done=len(read.hashes), errors=sum(read.unreadable.values()))
    check_unreadable(read.unreadable, total, max_unreadable_share, source.input_uri)
    if len(read.hashes) < MIN_IMAGES:
        raise UsageError(
            "--input", f"a place with at least {MIN_IMAGES} readable good images", len(read.hashes), "Add good images."
        )
    if group_key and None in read.group_keys:
        raise UsageError(
            "--group-key",
            "a field of --key-pattern that every image has",
            group_key,
            f"{read.group_keys.count(None)} of {total} images lack it: correct --key-pattern or choose another key.",
        )
    for name in sorted(exclusions.unused()):
        print(f"--exclude: {name} is no image of the input")
    if read.unreadable:
        print("not readable, left out: " + ", ".join(f"{n} {reason}" for reason, n in read.unreadable.most_common()))
    read.thumbs = np.concatenate(thumbs)
    return read
