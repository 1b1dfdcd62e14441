"""Images as training keeps them on disk: rows of equal shape, written once and read back batch by batch.

Memory stays bounded by the batch, whatever the number of images: the operating system keeps the part of the mapped file
that fits and drops the rest.
"""

from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import torch
from torch import Tensor

from models.detector import Detector
from models.maps.grids import Maps


class StoredRows:
    """A growing file of rows, one per image; it can be read at any time, also between appends.

    Args:
        path: the file to create.
        shape: of one row.
        dtype: the stored type: uint8 for pixels, float16 for feature maps (it holds bf16 features below 65,504 exactly).

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     rows = StoredRows(Path(folder) / "rows.bin", shape=(3,), dtype=np.float16)
    ...     rows.append(torch.arange(6.0).view(2, 3))
    ...     rows.read(torch.tensor([1, 0, 1]))
    tensor([[3., 4., 5.],
            [0., 1., 2.],
            [3., 4., 5.]])
    """

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: type[np.generic]):
        self.shape = shape
        self.dtype = np.dtype(dtype)
        self.count = 0
        self._path = path
        self._file = open(path, "xb")
        self._map: np.memmap | None = None

    def append(self, rows: Tensor) -> None:
        """Add rows, (B, *shape). Raises ValueError when a value does not survive the stored type."""
        assert tuple(rows.shape[1:]) == self.shape, (rows.shape, self.shape)
        stored = rows.detach().cpu().numpy().astype(self.dtype)
        if not np.isfinite(stored).all():
            raise ValueError(
                f"features must be finite and below 65,504; got {float(rows.abs().max())}. "
                "Check the backbone's weights and taps, or use precision float32."
            )
        self._file.write(np.ascontiguousarray(stored).data)
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
        """Close and delete the file."""
        self._map = None
        self._file.close()
        self._path.unlink(missing_ok=True)


class FeatureStore:
    """The feature pyramid of many images, one StoredRows per scale. As a context manager it deletes its files at the end.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, FeatureStore(Path(folder), "fit") as store:
    ...     store.append([torch.zeros(4, 16, 8, 8), torch.zeros(4, 32, 4, 4)])
    ...     [tuple(x.shape) for x in store.read(torch.tensor([0, 3]))]
    [(2, 16, 8, 8), (2, 32, 4, 4)]
    """

    def __init__(self, directory: Path, name: str):
        self.directory, self.name = directory, name
        self.scales: list[StoredRows] = []

    def append(self, maps: Maps) -> None:
        """Add a batch, per scale (B, C, H_i, W_i)."""
        if not self.scales:
            self.scales = [
                StoredRows(
                    self.directory / f"{self.name}-scale{s}.bin",
                    tuple(x.shape[1:]),
                    np.uint8 if x.dtype == torch.uint8 else np.float16,
                )
                for s, x in enumerate(maps)
            ]
        for rows, x in zip(self.scales, maps, strict=True):
            rows.append(x)

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

    def __init__(self, detector: Detector, directory: Path, name: str, device: str = "cpu"):
        size = detector.config.input
        self.detector, self.device = detector, device
        self.pixels = StoredRows(directory / f"{name}-pixels.bin", (size.height, size.width, 3), np.uint8)
        self.stored = FeatureStore(directory, name) if detector.reads_often else None

    def append(self, images: Tensor) -> None:
        """Add images, (B, H, W, 3) uint8."""
        self.pixels.append(images)
        if self.stored is not None:
            self.stored.append(self.detector.extract(images.to(self.device)))

    def __len__(self) -> int:
        return len(self.pixels)

    def read(self, positions: Tensor) -> Maps:
        """The result of Detector.features for the images at these positions (B,), per level (B, C_l, h_l, w_l)."""
        if self.stored is not None:
            return self.stored.read(positions)
        return self.detector.extract(self.pixels.read(positions).to(self.device))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.pixels.close()
        if self.stored is not None:
            self.stored.__exit__(kind, error, trace)
