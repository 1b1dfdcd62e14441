"""Other light on the same picture: a gain, an offset and a linear gradient, as a camera with 8 bits records it."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
OFFSET_LEVELS = 25.0  # grey levels of offset that go with a strength of 1


class LightField(NamedTuple):
    """How light differs from the usual; all 0 is the usual.

    gain: of the middle of the image, 0.1 is 10 % more.
    gradient: by how much the factor of the brightest corner is above that of the middle, 0.1 is 10 %; the darkest is as much
        below.
    angle: where the bright side is, radians: 0 is the right, pi / 2 the bottom.
    offset: added after the factor, grey levels of 255.
    """

    gain: float = 0.0
    gradient: float = 0.0
    angle: float = 0.0
    offset: float = 0.0


def lit(image: Image, field: LightField) -> Image:
    """The image (H, W, 3), uint8, in that light: rounded, and clipped to 0..255 as a sensor saturates.

    >>> image = np.full((1, 3, 3), 200, np.uint8)
    >>> lit(image, LightField(gradient=0.4))[0, :, 0].tolist(), lit(image, LightField(gain=-0.1, offset=5))[0, :, 0].tolist()
    ([120, 200, 255], [185, 185, 185])
    """
    factor = np.float32(1 + field.gain) + np.float32(field.gradient) * ramp(image.shape[:2], field.angle)
    changed = image * factor[..., None] + np.float32(field.offset)
    return np.clip(np.rint(changed), 0, 255).astype(np.uint8)


def ramp(shape: tuple[int, ...], angle: float) -> NDArray[np.float32]:
    """(H, W): rises evenly from -1 to 1 towards the angle, and reaches both at the edge or corners.

    >>> ramp((2, 3), 0.0).tolist()
    [[-1.0, 0.0, 1.0], [-1.0, 0.0, 1.0]]
    """
    down, across = np.sin(angle), np.cos(angle)
    rows, columns = (np.linspace(-1, 1, side, dtype=np.float32) for side in shape)
    share = abs(down) + abs(across)
    return np.float32(down / share) * rows[:, None] + np.float32(across / share) * columns[None, :]


def drawn(strength: float, rng: np.random.Generator) -> LightField:
    """A field at random. Gain and gradient together change no place by more than the strength, and the gradient is as likely to
    be anything up to it; the offset is up to 25 grey levels times the strength.

    >>> fields = [drawn(0.4, np.random.default_rng(seed)) for seed in range(99)]
    >>> bool(max(abs(field.gain) + field.gradient for field in fields) <= 0.4)
    True
    """
    gradient = strength * rng.uniform()
    gain = (strength - gradient) * rng.uniform(-1, 1)
    return LightField(gain, gradient, rng.uniform(0, 2 * np.pi), OFFSET_LEVELS * strength * rng.uniform(-1, 1))
