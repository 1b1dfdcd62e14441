"""Six families of synthetic defects, made from good images only: they choose settings and stop training without a label.

A family is a function of one good image, another good image, a severity and a generator. One family alone misleads
(single families rank models far worse than the mean over all six), so `models.fitting.selection` always takes all of them.
Severity is a positive number without unit; it enlarges a patch, or raises the contrast of a spot or field.
"""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Image = NDArray[np.uint8]
Family = Callable[[Image, Image, float, np.random.Generator], Image]

TRIES = 50
SEVERITY_LADDER = (0.1, 0.2, 0.35, 0.6, 1.0, 1.6, 2.5)


def make(
    family: str,
    images: Image,
    severity: float,
    seed: int,
    families: Mapping[str, Family] | None = None,
    inside: NDArray[np.bool_] | None = None,
) -> Image:
    """One synthetic defect in every image.

    Args:
        family: a key of the families.
        images: good images, (N, H, W, 3), uint8, already resized.
        severity: see the module's docstring; 1 is a defect of about a tenth of the image's side, or plain contrast.
        seed: the same seed, images and severity give the same pixels. Image i depends on seed, family, i and, if the
            family takes texture from another good image, on that one.
        families: None takes FAMILIES.
        inside: (H, W), the pixels that count; only these are changed. A defect is drawn again, at most TRIES times, until more
            than half of what it changes is there, or more than half of what counts is changed. None: all count.
    Returns:
        (N, H, W, 3), uint8.

    >>> images = np.full((3, 64, 64, 3), 128, np.uint8)
    >>> images[:, ::2] = 100
    >>> defects = make("cutpaste", images, severity=1.0, seed=0)
    >>> defects.shape, bool((defects == make("cutpaste", images, severity=1.0, seed=0)).all())
    ((3, 64, 64, 3), True)
    """
    families = FAMILIES if families is None else families
    number = list(families).index(family)
    out = np.empty_like(images)
    for i, image in enumerate(images):
        rng = np.random.default_rng((seed, number, i))
        other = images[(i + 1 + rng.integers(max(len(images) - 1, 1))) % len(images)]
        out[i] = families[family](image, other, severity, rng)
        if inside is not None:
            for _ in range(TRIES):
                changed = (out[i] != image).any(axis=2)  # (H, W)
                if 2 * np.count_nonzero(changed & inside) > min(np.count_nonzero(changed), np.count_nonzero(inside)):
                    break
                out[i] = families[family](image, other, severity, rng)
            out[i][~inside] = image[~inside]
    return out


def cutpaste(image: Image, other: Image, severity: float, rng: np.random.Generator) -> Image:
    """A rectangle of the image pasted elsewhere in it. Source: Li et al. 2021, CutPaste, arXiv:2104.04015.

    >>> image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    >>> changed = (cutpaste(image, image, 1.0, np.random.default_rng(1)) != image).any(axis=2)
    >>> bool(0 < changed.mean() < 0.1)
    True
    """
    height, width = patch_size(image, 0.16 * severity**0.5, rng)
    top, left = corner(image, height, width, rng)
    from_top, from_left = corner(image, height, width, rng)
    out = image.copy()
    out[top : top + height, left : left + width] = image[from_top : from_top + height, from_left : from_left + width]
    return out


def scar(image: Image, other: Image, severity: float, rng: np.random.Generator) -> Image:
    """A thin rotated strip of the image's own texture, its brightness shifted. Source: CutPaste-Scar, arXiv:2104.04015.

    >>> image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    >>> changed = (scar(image, image, 1.0, np.random.default_rng(1)) != image).any(axis=2)
    >>> bool(0 < changed.mean() < 0.1)
    True
    """
    side = min(image.shape[:2])
    length = rng.uniform(0.15, 0.5) * side * severity**0.5
    thickness = max(1.5, rng.uniform(0.012, 0.04) * side * severity**0.5)
    alpha = strip_alpha(image, length, thickness, rng)
    strip = np.roll(image, rng.integers(1, side), axis=int(rng.integers(2))).astype(np.float32)
    shift = rng.choice((-1.0, 1.0)) * rng.uniform(0.5, 1.5) * image.std()
    return blend(image, strip + shift, alpha)


def soft_patch(image: Image, other: Image, severity: float, rng: np.random.Generator) -> Image:
    """A soft-edged patch of another good image. Source: Schlueter et al. 2022, NSA, arXiv:2109.15222.

    >>> image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    >>> soft_patch(image, image[::-1], 1.0, np.random.default_rng(1)).shape
    (64, 64, 3)
    """
    height, width = patch_size(image, 0.25 * severity**0.5, rng)
    alpha = ellipse_alpha(image, height, width, rng)
    return blend(image, borrowed(image, other, rng), alpha)


def perlin(image: Image, other: Image, severity: float, rng: np.random.Generator) -> Image:
    """Rotated good texture under a smooth noise mask. Source: Zavrtanik et al. 2021, DRAEM, arXiv:2108.07610.

    >>> image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    >>> perlin(image, image[::-1], 1.0, np.random.default_rng(1)).shape
    (64, 64, 3)
    """
    shape = image.shape[:2]
    noise = smooth_noise(shape, 2 ** -rng.uniform(3.5, 5), rng)
    share = np.clip(0.03 * severity, 0.001, 0.5)
    near = from_centre(image, rng)
    noise = noise - (near[0] ** 2 + near[1] ** 2) / (0.25 * min(shape)) ** 2
    mask = ndimage.gaussian_filter((noise > np.quantile(noise, 1 - share)).astype(np.float32), 1.0)
    return blend(image, turned(other, rng), mask * rng.uniform(0.5, 1.0))


def spot(image: Image, other: Image, severity: float, rng: np.random.Generator) -> Image:
    """A low-contrast spot, darker or lighter than the surface.

    >>> image = np.random.default_rng(0).integers(100, 120, (64, 64, 3), np.uint8)
    >>> changed = spot(image, image, 2.0, np.random.default_rng(1)) != image
    >>> bool(0 < changed.mean() < 0.1)
    True
    """
    rows, columns = from_centre(image, rng)
    radius = rng.uniform(0.02, 0.06) * min(image.shape[:2])
    shape = np.exp(-(((rows**2 + columns**2) / radius**2) ** 2))
    shift = rng.choice((-1.0, 1.0)) * 1.5 * severity * image.std()
    return blend(image, image.astype(np.float32) + shift, shape)


def uneven(image: Image, other: Image, severity: float, rng: np.random.Generator) -> Image:
    """A smooth field of brightness over the whole image, such as uneven grinding or light causes.

    >>> image = np.full((64, 64, 3), 128, np.uint8)
    >>> field = uneven(image, image, 1.0, np.random.default_rng(1))
    >>> bool(field.std() > 5)
    True
    """
    shape = image.shape[:2]
    field = smooth_noise(shape, rng.uniform(0.08, 0.25), rng)
    return blend(image, image.astype(np.float32) * np.exp(0.15 * severity * field)[..., None], np.ones(shape))


FAMILIES: dict[str, Family] = {
    "cutpaste": cutpaste,
    "scar": scar,
    "soft_patch": soft_patch,
    "perlin": perlin,
    "spot": spot,
    "uneven": uneven,
}


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
