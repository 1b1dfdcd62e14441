"""What the families of synthetic defects draw with: soft shapes, smooth noise, borrowed texture and random places."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Image = NDArray[np.uint8]


def smooth_noise(shape: tuple[int, ...], share_of_side: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Gaussian noise, smooth over the given share of the shorter side; mean 0, deviation 1, (H, W).

    >>> field = smooth_noise((32, 48), share_of_side=0.1, rng=np.random.default_rng(0))
    >>> field.shape, round(float(field.std()), 6)
    ((32, 48), 1.0)
    """
    cells = [max(8, round(64 * side / min(shape))) for side in shape]  # coarse, then enlarged: a wide filter is slow
    coarse = ndimage.gaussian_filter(rng.standard_normal(cells), share_of_side * min(cells), mode="reflect")
    field = ndimage.zoom(coarse, (shape[0] / cells[0], shape[1] / cells[1]), order=1, grid_mode=True, mode="nearest")
    return (field - field.mean()) / max(float(field.std()), 1e-9)


def blend(image: Image, texture: NDArray[np.float32], alpha: NDArray[np.floating]) -> Image:
    """The image (H, W, 3), with a share alpha (H, W) of the texture (H, W, 3).

    >>> image = np.full((1, 2, 3), 100, np.uint8)
    >>> blend(image, np.full((1, 2, 3), 200, np.float32), alpha=np.array([[0.0, 0.5]]))[..., 0]
    array([[100, 150]], dtype=uint8)
    """
    mixed = image + alpha[..., None] * (texture - image)
    return np.clip(np.rint(mixed), 0, 255).astype(np.uint8)


def strip_alpha(image: Image, length: float, thickness: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """(H, W): 1 in a strip of a random place and angle, sizes in pixels, with ends and edges of about a pixel.

    >>> alpha = strip_alpha(np.zeros((64, 64, 3), np.uint8), length=20, thickness=3, rng=np.random.default_rng(0))
    >>> alpha.shape, bool(alpha.max() <= 1)
    ((64, 64), True)
    """
    rows, columns = from_centre(image, rng)
    angle = rng.uniform(0, np.pi)
    along = np.abs(columns * np.cos(angle) + rows * np.sin(angle))
    across = np.abs(rows * np.cos(angle) - columns * np.sin(angle))
    return np.clip((length - 2 * along) / 2 + 1, 0, 1) * np.clip((thickness - 2 * across) / 2 + 0.5, 0, 1)


def ellipse_alpha(image: Image, height: int, width: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """(H, W): 1 in a soft-edged ellipse of a random place, sizes in pixels.

    >>> alpha = ellipse_alpha(np.zeros((64, 64, 3), np.uint8), height=20, width=10, rng=np.random.default_rng(0))
    >>> alpha.shape, bool(alpha.max() <= 1)
    ((64, 64), True)
    """
    rows, columns = from_centre(image, rng)
    radius = np.sqrt((2 * rows / height) ** 2 + (2 * columns / width) ** 2)
    return np.clip(1.5 * (1.3 - radius), 0, 1)


def borrowed(image: Image, other: Image, rng: np.random.Generator) -> NDArray[np.float32]:
    """The other image, moved at random, halfway to this one's brightness.

    >>> image, other = np.full((8, 8, 3), 100, np.uint8), np.full((8, 8, 3), 60, np.uint8)
    >>> float(borrowed(image, other, np.random.default_rng(0)).mean())
    80.0
    """
    patch = np.roll(other, (rng.integers(image.shape[0]), rng.integers(image.shape[1])), axis=(0, 1)).astype(np.float32)
    return patch + (float(image.mean()) - float(patch.mean())) * 0.5


def turned(image: Image, rng: np.random.Generator) -> NDArray[np.float32]:
    """The image rotated by half a turn, or, if it is square, by a random number of quarter turns.

    >>> turned(np.zeros((32, 48, 3), np.uint8), np.random.default_rng(0)).shape
    (32, 48, 3)
    """
    quarters = 2 if image.shape[0] != image.shape[1] else int(rng.integers(1, 4))
    return np.rot90(image, k=quarters).astype(np.float32)


def patch_size(image: Image, share_of_side: float, rng: np.random.Generator) -> tuple[int, int]:
    """Height and width in pixels, of a random aspect ratio between 0.45 and 2.2.

    >>> height, width = patch_size(np.zeros((64, 64, 3), np.uint8), share_of_side=0.25, rng=np.random.default_rng(0))
    >>> bool(2 <= height < 64 and 2 <= width < 64)
    True
    """
    aspect = np.exp(rng.uniform(-0.8, 0.8))
    height = share_of_side * image.shape[0] * aspect**0.5
    width = share_of_side * image.shape[1] / aspect**0.5
    return int(np.clip(height, 2, image.shape[0] - 1)), int(np.clip(width, 2, image.shape[1] - 1))


def corner(image: Image, height: int, width: int, rng: np.random.Generator) -> tuple[int, int]:
    """First row and column of a random rectangle inside the image.

    >>> top, left = corner(np.zeros((64, 64, 3), np.uint8), height=20, width=30, rng=np.random.default_rng(0))
    >>> top <= 44 and left <= 34
    True
    """
    return int(rng.integers(image.shape[0] - height)), int(rng.integers(image.shape[1] - width))


def from_centre(image: Image, rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rows and columns, in pixels, from a random place that is not at the edge; each (H, W).

    >>> rows, columns = from_centre(np.zeros((32, 48, 3), np.uint8), np.random.default_rng(0))
    >>> rows.shape, float(rows[1, 0] - rows[0, 0]), float(columns[0, 1] - columns[0, 0])
    ((32, 48), 1.0, 1.0)
    """
    height, width = image.shape[:2]
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float64)
    return rows - rng.uniform(0.1, 0.9) * height, columns - rng.uniform(0.1, 0.9) * width
