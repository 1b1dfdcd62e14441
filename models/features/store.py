"""Images as training keeps them on disk: rows of equal shape, written once and read back batch by batch.

They are deleted at the end, or kept for a later process, which checks their SHA-256 when it opens them.

Memory stays bounded by the batch, whatever the number of images: the operating system keeps the part of the mapped file
that fits and drops the rest.
"""

import copy
import hashlib
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from models import state_file
from models.detector import Detector
from models.maps.content_box import Box
from models.maps.grids import Maps


class RowsFile(NamedTuple):
    """What a later process must know of a complete file of rows. dtype: numpy's name.  sha256: of the file, hex."""

    rows: int
    shape: list[int]
    dtype: str
    sha256: str


class StoredRows:
    """A growing file of rows, one per image; it can be read at any time, also between appends.

    Args:
        path: the file to create.
        shape: of one row.
        dtype: the stored type: uint8 for pixels, float16 for feature maps (it holds bf16 features below 65,504 exactly).
        keep: the file stays when it is closed, and replaces one that is there.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     rows = StoredRows(Path(folder) / "rows.bin", shape=(3,), dtype=np.float16)
    ...     rows.append(torch.arange(6.0).view(2, 3))
    ...     rows.read(torch.tensor([1, 0, 1]))
    tensor([[3., 4., 5.],
            [0., 1., 2.],
            [3., 4., 5.]])
    """

    def __init__(
        self, path: Path, shape: tuple[int, ...], dtype: type[np.generic], keep: bool = False, known: RowsFile | None = None
    ):
        self.shape = shape
        self.dtype = np.dtype(dtype)
        self.count = 0 if known is None else known.rows
        self._path, self._keep = path, keep
        self._hash = hashlib.sha256()
        self._file = open(path, "rb" if known else "wb" if keep else "xb")
        self._map: np.memmap | None = None

    @classmethod
    def opened(cls, path: Path, known: RowsFile) -> Self:
        """A complete file that was kept, and stays. Raises UnusableState for one that is not as it is known."""
        try:
            with open(path, "rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError:
            found = "no file"
        if found != known.sha256:
            raise state_file.UnusableState(f"{path.name} is damaged")
        return cls(path, tuple(known.shape), np.dtype(known.dtype).type, True, known)

    def complete(self) -> RowsFile:
        """Bring what was written to the disk; no row may be added any more."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return RowsFile(self.count, list(self.shape), self.dtype.name, self._hash.hexdigest())

    @property
    def bytes(self) -> int:
        """The size of the file."""
        return self.count * math.prod(self.shape) * self.dtype.itemsize

    def append(self, rows: Tensor) -> None:
        """Add rows, (B, *shape). Raises ValueError when a value does not survive the stored type."""
        assert tuple(rows.shape[1:]) == self.shape, (rows.shape, self.shape)
        stored = rows.detach().cpu().numpy().astype(self.dtype)
        if not np.isfinite(stored).all():
            raise ValueError(
                f"features must be finite and below 65,504; got {float(rows.abs().max())}. "
                "Check the backbone's weights and taps, or use precision float32."
            )
        written = np.ascontiguousarray(stored).data
        self._file.write(written)
        if self._keep:
            self._hash.update(written)
        self.count += len(stored)
        self._map = None

    def __len__(self) -> int:
        return self.count

    def read(self, positions: Tensor) -> Tensor:
        """Rows at the positions (B,), int64, as (B, *shape): uint8 as stored, floats as float32."""
        if self._map is None:
            self._file.flush()
            self._map = np.memmap(self._path, self.dtype, "r", shape=(self.count, *self.shape))
        rows = torch.from_numpy(self._map[positions.numpy()])
        return rows.float() if rows.is_floating_point() else rows

    def close(self) -> None:
        """Close and delete the file, unless it is kept."""
        self._map = None
        self._file.close()
        if not self._keep:
            self._path.unlink(missing_ok=True)


def stored_type(maps: Tensor) -> type[np.generic]:
    """The type in which feature maps are kept.

    >>> stored_type(torch.zeros(1, 3, 4, 4)), stored_type(torch.zeros(1, 3, 4, 4, dtype=torch.uint8))
    (<class 'numpy.float16'>, <class 'numpy.uint8'>)
    """
    return np.uint8 if maps.dtype == torch.uint8 else np.float16


def image_bytes(detector: Detector, maps: Maps) -> int:
    """What ImageFeatures keeps of one image.

    Args:
        maps: the detector's features of some images, per level (B, C_l, h_l, w_l).

    >>> from models import registry
    >>> from models.config import ArtifactConfig, InputConfig
    >>> size, few = InputConfig(height=64, width=64), {"bank_size": 8}
    >>> detector = registry.build(ArtifactConfig(name="tile", detector="patchsvdd", input=size, hyperparameters=few))
    >>> image_bytes(detector, maps=[torch.zeros(1, 3, 64, 64)])  # its features are the pixels and not kept a second time
    12288
    """
    size = detector.config.input
    kept = sum(x[0].numel() * np.dtype(stored_type(x)).itemsize for x in maps) if detector.reads_often else 0
    return size.height * size.width * 3 + kept


class FeatureStore:
    """The feature pyramid of many images, one StoredRows per scale. As a context manager it deletes its files at the end.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, FeatureStore(Path(folder), "fit") as store:
    ...     store.append([torch.zeros(4, 16, 8, 8), torch.zeros(4, 32, 4, 4)])
    ...     [tuple(x.shape) for x in store.read(torch.tensor([0, 3]))]
    [(2, 16, 8, 8), (2, 32, 4, 4)]
    """

    def __init__(self, directory: Path, name: str, keep: bool = False):
        self.directory, self.name, self.keep = directory, name, keep
        self.scales: list[StoredRows] = []

    def append(self, maps: Maps) -> None:
        """Add a batch, per scale (B, C, H_i, W_i)."""
        if not self.scales:
            self.scales = [StoredRows(self.path(s), tuple(x.shape[1:]), stored_type(x), self.keep) for s, x in enumerate(maps)]
        for rows, x in zip(self.scales, maps, strict=True):
            rows.append(x)

    def of_levels(self, levels: Sequence[int]) -> "FeatureStore":
        """Some of the maps of the same images."""
        part = copy.copy(self)
        part.scales = [self.scales[level] for level in levels]
        return part

    def path(self, scale: int) -> Path:
        return self.directory / f"{self.name}-scale{scale}.bin"

    def __len__(self) -> int:
        return len(self.scales[0]) if self.scales else 0

    def read(self, positions: Tensor) -> Maps:
        """The maps of the images at these positions (B,), per scale (B, C, H_i, W_i), float32."""
        return [rows.read(positions) for rows in self.scales]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for rows in self.scales:
            rows.close()


class ImageFeatures:
    """The pixels of images, in the order they were added, and a detector's features of them.

    If the detector reads an image often, its features are stored too; else they are computed at every read. As a context
    manager it deletes its files at the end.

    Args:
        identity: of all that decides the images and features; None deletes the files at the end. Else they stay, and those
            that an earlier process with this identity has completed are there from the start.
        say: called with a line about kept files that are not used.

    about: what that process told of them, any state of models/state_file.py; None where images are to be added.
    boxes: the part of every image that shows the picture, where some are padded; None: all of each.

    >>> import tempfile
    >>> from models import registry
    >>> from models.config import ArtifactConfig, InputConfig
    >>> size, few = InputConfig(height=64, width=64), {"bank_size": 8}
    >>> detector = registry.build(ArtifactConfig(name="tile", detector="patchsvdd", input=size, hyperparameters=few))
    >>> with tempfile.TemporaryDirectory() as folder, ImageFeatures(detector, Path(folder), "fit") as images:
    ...     images.append(torch.zeros(3, 64, 64, 3, dtype=torch.uint8))
    ...     len(images), images.read(torch.tensor([0, 2]))[0].shape
    (3, torch.Size([2, 3, 64, 64]))
    """

    def __init__(
        self,
        detector: Detector,
        directory: Path,
        name: str,
        device: str = "cpu",
        identity: str | None = None,
        say: Callable[[str], None] = lambda line: None,
    ):
        size = detector.config.input
        self.detector, self.device, self.identity = detector, device, identity
        self.about: Any = None
        self.boxes: Sequence[Box] | None = None
        self._path, self._state = directory / f"{name}-pixels.bin", directory / f"{name}.state"
        keep = identity is not None
        self.stored = FeatureStore(directory, name, keep) if detector.reads_often else None
        if identity is not None and self._state.exists():
            try:
                self._open(identity)
                return
            except state_file.UnusableState as error:
                say(f"not used: {error}; its images are read again")
                self._state.unlink()
        self.pixels = StoredRows(self._path, (size.height, size.width, 3), np.uint8, keep)

    def _open(self, identity: str) -> None:
        about, rows, scales = state_file.read(self._state, identity)
        pixels = StoredRows.opened(self._path, RowsFile(*rows))
        if self.stored is not None:
            self.stored.scales = [
                StoredRows.opened(self.stored.path(scale), RowsFile(*rows)) for scale, rows in enumerate(scales)
            ]
        self.pixels, self.about = pixels, about

    def complete(self, about: Any) -> None:
        """All images are added. Where files are kept, a later process with the same identity uses them and finds `about`."""
        if self.identity is not None:
            scales = [] if self.stored is None else [rows.complete() for rows in self.stored.scales]
            state_file.write(self._state, self.identity, (about, self.pixels.complete(), scales))

    def append(self, images: Tensor) -> None:
        """Add images, (B, H, W, 3) uint8."""
        self.pixels.append(images)
        if self.stored is not None:
            self.stored.append(self.detector.extract(images.to(self.device)))

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def stored_bytes(self) -> int:
        """The size of the files."""
        return sum(rows.bytes for rows in (self.pixels, *(self.stored.scales if self.stored else [])))

    def read(self, positions: Tensor) -> Maps:
        """The result of Detector.features for the images at these positions (B,), per level (B, C_l, h_l, w_l)."""
        if self.stored is not None:
            return self.stored.read(positions)
        return self.detector.extract(self.pixels.read(positions).to(self.device))

    def of_part(self, detector: Detector, levels: Sequence[int]) -> Self:
        """The same images for a detector whose features are these levels. What it reads only once it computes from the pixels,
        as if the images had been added for it alone. Only the images that it was made of are closed."""
        part = copy.copy(self)
        part.detector = detector
        if self.stored is not None:
            part.stored = self.stored.of_levels(levels) if detector.reads_often else None
        return part

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.pixels.close()
        if self.stored is not None:
            self.stored.__exit__(kind, error, trace)
