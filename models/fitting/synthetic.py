"""Families of synthetic defects, made from good images only: they choose settings and stop training without a label.

A family is a function of one good image, another good image, a severity and a generator. One family alone misleads
(single families rank models far worse than the mean over all), so `models.fitting.selection` always takes all of them.
Severity is a positive number without unit; it enlarges a patch, or raises the contrast of a spot or field.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.alterations.picture import cut, padded
from models.fitting.drawing import (
    Image,
    blend,
    borrowed,
    corner,
    ellipse_alpha,
    from_centre,
    patch_size,
    smooth_noise,
    strip_alpha,
    turned,
)
from models.maps.content_box import Box

Family = Callable[[Image, Image, float, np.random.Generator], Image]

TRIES = 50
LEAST_SIDE = 16
SEVERITY_LADDER = (0.1, 0.2, 0.35, 0.6, 1.0, 1.6, 2.5)


def make(
    family: str,
    images: Image,
    severity: float,
    seed: int,
    families: Mapping[str, Family] | None = None,
    inside: NDArray[np.bool_] | None = None,
    boxes: Sequence[Box | None] | None = None,
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
        boxes: the part of each image that shows the picture; the defect is drawn there, and the picture padded again. One
            narrower than LEAST_SIDE px is widened to that, and a defect drawn again until it changes the picture. None, or a
            None in it: all of the image.
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
    wide = [box and _wide(box, images.shape[1:3]) for box in boxes or [None] * len(images)]
    for i, image in enumerate(images):
        rng = np.random.default_rng((seed, number, i))
        near = (i + 1 + rng.integers(max(len(images) - 1, 1))) % len(images)
        part, other = cut(image, wide[i]), cut(images[near], wide[near])
        other = _sampled(other, part.shape)
        made = families[family](part, other, severity, rng)
        counted = _counted(inside, None if boxes is None else boxes[i], wide[i], images.shape[1:3])
        if counted is not None:
            for _ in range(TRIES):
                changed = (made != part).any(axis=2)  # (h, w)
                if 2 * np.count_nonzero(changed & counted) > min(np.count_nonzero(changed), np.count_nonzero(counted)):
                    break
                made = families[family](part, other, severity, rng)
        out[i] = padded(made, wide[i], image.shape)
        if inside is not None:
            out[i][~inside] = image[~inside]
    return out


def _counted(
    inside: NDArray[np.bool_] | None, box: Box | None, wide: Box | None, shape: tuple[int, ...]
) -> NDArray[np.bool_] | None:
    """What a defect must change of the part that it is drawn on, (h, w); None: any of it. shape: (H, W) of the image."""
    if wide == box and inside is None:
        return None
    counted = np.ones(shape, bool) if inside is None else inside
    if box is None or wide is None:
        return counted
    shown = np.zeros(shape, bool)
    shown[box.top : box.bottom, box.left : box.right] = True
    return (counted & shown)[wide.top : wide.bottom, wide.left : wide.right]


def _wide(box: Box, shape: tuple[int, ...]) -> Box:
    """The box with sides of at least LEAST_SIDE px, within an image of (H, W)."""
    sides = []
    for start, end, length in ((box.left, box.right, shape[1]), (box.top, box.bottom, shape[0])):
        wanted = min(max(end - start, LEAST_SIDE), length)
        start = max(0, min(start - (wanted - (end - start)) // 2, length - wanted))
        sides.append((start, start + wanted))
    return Box(sides[0][0], sides[1][0], sides[0][1], sides[1][1])


def _sampled(image: Image, shape: tuple[int, ...]) -> Image:
    """The image with as many rows and columns, each the nearest one."""
    if image.shape == shape:
        return image
    rows, columns = (np.arange(wanted) * found // wanted for wanted, found in zip(shape[:2], image.shape[:2], strict=True))
    return image[rows[:, None], columns]


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


def stain(image: Image, other: Image, severity: float, rng: np.random.Generator) -> Image:
    """A large area of an uneven outline, slightly darker or lighter than the surface.

    >>> image = np.random.default_rng(0).integers(100, 120, (64, 64, 3), np.uint8)
    >>> changed = (stain(image, image, 2.0, np.random.default_rng(1)) != image).any(axis=2)
    >>> bool(0.05 < changed.mean() < 0.7)
    True
    """
    shape = image.shape[:2]
    rows, columns = from_centre(image, rng)
    radius = rng.uniform(0.15, 0.35) * min(shape) * (1 + 0.25 * smooth_noise(shape, 0.1, rng))
    alpha = np.clip(4 * (1 - np.hypot(rows, columns) / np.maximum(radius, 1)), 0, 1)
    shift = rng.choice((-1.0, 1.0)) * 0.6 * severity * image.std()
    return blend(image, image.astype(np.float32) + shift, alpha)


def crack(image: Image, other: Image, severity: float, rng: np.random.Generator) -> Image:
    """A thin line that wanders over the surface, darker than it.

    >>> image = np.random.default_rng(0).integers(100, 120, (64, 64, 3), np.uint8)
    >>> changed = (crack(image, image, 2.0, np.random.default_rng(1)) != image).any(axis=2)
    >>> bool(0 < changed.mean() < 0.1)
    True
    """
    height, width = image.shape[:2]
    side = min(height, width)
    steps = int(rng.uniform(0.2, 0.8) * side)
    angles = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.12, steps))
    start = rng.uniform(0.1, 0.9, 2) * (height, width)
    path = start + np.cumsum(np.stack([np.sin(angles), np.cos(angles)], 1), axis=0)  # a pixel a step, (steps, 2)
    rows, columns = np.rint(path).astype(int).T
    there = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    clear = np.ones((height, width), bool)
    clear[rows[there], columns[there]] = False
    away = ndimage.distance_transform_edt(clear) if not clear.all() else np.full((height, width), np.inf)
    thickness = max(1.0, rng.uniform(0.004, 0.012) * side)
    shift = -1.5 * severity * image.std()
    return blend(image, image.astype(np.float32) + shift, np.clip(thickness / 2 + 0.5 - away, 0, 1))


FAMILIES: dict[str, Family] = {
    "cutpaste": cutpaste,
    "scar": scar,
    "soft_patch": soft_patch,
    "perlin": perlin,
    "spot": spot,
    "uneven": uneven,
    "stain": stain,
    "crack": crack,
}
