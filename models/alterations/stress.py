"""What a good image meets in a plant without a defect: other light, less focus, another place. Each in a few sizes.

Alterations are made of the pixels at the model's input size, as a camera would record them: uint8, clipped to 0..255.
"""

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.alterations.light import Image, LightField, lit

Kind = Literal["gain", "gradient", "offset", "blur", "shift", "rotation"]
UNITS: dict[Kind, str] = {
    "gain": "%",
    "gradient": "%",
    "offset": "of 255",
    "blur": "px",
    "shift": "% of the side",
    "rotation": "degrees",
}
SIGNED = ("gain", "offset")


class Alteration(NamedTuple):
    """One way in which an image differs from the usual.

    amount: in the kind's unit of UNITS. A gradient goes from -amount at one end of the image to +amount at the other; blur is
        the standard deviation of a Gaussian; a shift is of the shorter side.
    """

    kind: Kind
    amount: float

    @property
    def name(self) -> str:
        """In words.

        >>> Alteration("gain", 10).name, Alteration("rotation", 2).name
        ('gain +10 %', 'rotation 2 degrees')
        """
        amount = f"{self.amount:+.3g}" if self.kind in SIGNED else f"{self.amount:.3g}"
        return f"{self.kind} {amount} {UNITS[self.kind]}"


SIZES: dict[Kind, tuple[float, ...]] = {
    "gain": (-40, -20, -10, 10, 20, 40),
    "gradient": (10, 20, 40),
    "offset": (-20, -10, 10, 20),
    "blur": (0.5, 1, 2),
    "shift": (1, 2, 5),
    "rotation": (1, 2, 5),
}
STRESS = tuple(Alteration(kind, size) for kind, sizes in SIZES.items() for size in sizes)


def altered(image: Image, alteration: Alteration, rng: np.random.Generator) -> Image:
    """The image (H, W, 3), uint8, altered. The direction of a gradient, shift or rotation is the generator's first draw, so the
    same generator gives the same direction for every size. What comes in from outside the image is its mirror image.

    >>> image = np.full((4, 4, 3), 100, np.uint8)
    >>> altered(image, Alteration("gain", -40), np.random.default_rng(0))[0, 0].tolist()
    [60, 60, 60]
    >>> altered(image, Alteration("gradient", 40), np.random.default_rng(0)).mean().round().item()
    100.0
    """
    kind, amount = alteration
    turn = rng.uniform(0, 2 * np.pi)
    if kind == "gain":
        return lit(image, LightField(gain=amount / 100))
    if kind == "gradient":
        return lit(image, LightField(gradient=amount / 100, angle=turn))
    if kind == "offset":
        return lit(image, LightField(offset=amount))
    if kind == "blur":
        return _recorded(ndimage.gaussian_filter(image.astype(np.float32), (amount, amount, 0), mode="mirror"))
    if kind == "shift":
        return shifted(image, amount / 100 * min(image.shape[:2]), turn)
    return rotated(image, amount if turn < np.pi else -amount)


def shifted(image: Image, distance: float, angle: float) -> Image:
    """The image moved by whole pixels, at least one, about `distance` pixels towards the angle; 0 is to the right.

    >>> shifted(np.arange(12, dtype=np.uint8).reshape(3, 4, 1), distance=1, angle=0.0)[..., 0].tolist()
    [[1, 0, 1, 2], [5, 4, 5, 6], [9, 8, 9, 10]]
    """
    down, across = round(distance * float(np.sin(angle))), round(distance * float(np.cos(angle)))
    if not (down or across):
        across = 1
    most, (height, width) = max(abs(down), abs(across)), image.shape[:2]
    padded = np.pad(image, ((most, most), (most, most), (0, 0)), mode="reflect")
    return padded[most - down : most - down + height, most - across : most - across + width].copy()


def rotated(image: Image, degrees: float) -> Image:
    """The image turned about its middle, by cubic interpolation, so that it stays about as sharp as it is.

    >>> image = np.zeros((9, 9, 3), np.uint8)
    >>> image[4] = 200
    >>> turned = rotated(image, 10)[..., 0]
    >>> bool(turned[4, 4] == 200), int(turned[3, 8] > 0) + int(turned[5, 8] > 0)
    (True, 1)
    """
    found = ndimage.rotate(image.astype(np.float32), degrees, reshape=False, order=3, mode="mirror")
    return _recorded(found)


def _recorded(values: NDArray[np.floating]) -> Image:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
