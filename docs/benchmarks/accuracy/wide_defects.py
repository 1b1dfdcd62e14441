"""The families of `models/fitting/synthetic.py` with sizes over a wide range: what candidates.py draws with --wide.

There a family's size varies by a factor of about two and severity changes it; here it is log-uniform, from a few pixels to
most of the image, as real defects are, and severity changes the contrast alone (a patch of full contrast is severity 1).
Under the narrow ones CS-Flow's score by its highest cells led its mean on new tiles, where on real defects it trailed it.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.fitting.drawing import (
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
from models.fitting.synthetic import Family, crack, stain, uneven

Image = NDArray[np.uint8]


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def cutpaste(image: Image, other: Image, severity: float, rng: np.random.Generator) -> Image:
    height, width = patch_size(image, log_uniform(rng, 0.06, 0.7), rng)
    top, left = corner(image, height, width, rng)
    from_top, from_left = corner(image, height, width, rng)
    texture, alpha = image.astype(np.float32), np.zeros(image.shape[:2])
    texture[top : top + height, left : left + width] = image[from_top : from_top + height, from_left : from_left + width]
    alpha[top : top + height, left : left + width] = min(1, severity)
    return blend(image, texture, alpha)


def scar(image: Image, other: Image, severity: float, rng: np.random.Generator) -> Image:
    side = min(image.shape[:2])
    length, thickness = log_uniform(rng, 0.1, 1) * side, max(1.5, log_uniform(rng, 0.008, 0.06) * side)
    alpha = strip_alpha(image, length, thickness, rng)
    shift = rng.choice((-1.0, 1.0)) * rng.uniform(0.5, 1.5) * severity * image.std()
    return blend(image, image.astype(np.float32) + shift, alpha)


def soft_patch(image: Image, other: Image, severity: float, rng: np.random.Generator) -> Image:
    height, width = patch_size(image, log_uniform(rng, 0.1, 0.9), rng)
    alpha = min(1, severity) * ellipse_alpha(image, height, width, rng)
    return blend(image, borrowed(image, other, rng), alpha)


def perlin(image: Image, other: Image, severity: float, rng: np.random.Generator) -> Image:
    shape = image.shape[:2]
    noise = smooth_noise(shape, 2 ** -rng.uniform(3, 5), rng)
    share = log_uniform(rng, 0.005, 0.4)
    rows, columns = from_centre(image, rng)
    noise = noise - (rows**2 + columns**2) / ((0.5 * share**0.5 + 0.1) * min(shape)) ** 2
    mask = ndimage.gaussian_filter((noise > np.quantile(noise, 1 - share)).astype(np.float32), 1.0)
    return blend(image, turned(other, rng), mask * min(1, severity) * rng.uniform(0.5, 1.0))


def spot(image: Image, other: Image, severity: float, rng: np.random.Generator) -> Image:
    rows, columns = from_centre(image, rng)
    side = min(image.shape[:2])
    radius = log_uniform(rng, 0.012, 0.25) * side
    shift = rng.choice((-1.0, 1.0)) * 1.5 * severity * image.std() * min(1, (0.06 * side / radius) ** 0.5)
    return blend(image, image.astype(np.float32) + shift, np.exp(-(((rows**2 + columns**2) / radius**2) ** 2)))


FAMILIES: dict[str, Family] = {
    family.__name__: family for family in (cutpaste, scar, soft_patch, perlin, spot, uneven, stain, crack)
}
