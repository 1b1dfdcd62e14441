"""Refuses training images that are all alike: nothing can be learned from them about how good images differ.

Whitening and flows divide by the spread of good images. Where that is zero, or what rounding left of it, any other image gets a
score of up to 1e23, and none of them says anything.
"""

from collections.abc import Callable

from torch import Tensor

from models.faults import ModelError
from models.maps.grids import Maps

LEAST_SHARE = 1e-4  # of the features' root mean square; half a grey level of noise makes some thousandths
READ_IMAGES = 8


class NoVariation(ModelError):
    """Good images, or their features, that do not differ from each other."""


def check_varied(read: Callable[[Tensor], Maps], positions: Tensor) -> None:
    """Raises NoVariation if the images at the positions (N,), int64, all have the features of the first.

    It reads until an image differs, so of usual images only the first few.

    Args:
        read: positions (B,) to features per level (B, C_l, h_l, w_l).

    >>> import torch
    >>> check_varied(lambda positions: [positions[:, None, None, None] * torch.ones(2, 2)], torch.arange(2))  # raises nothing
    >>> try:
    ...     check_varied(lambda positions: [torch.ones(len(positions), 3, 2, 2)], torch.arange(2))
    ... except NoVariation as error:
    ...     str(error)[:38]
    'training images must differ; all of th'
    """
    if not len(positions):
        return  # who reads the images says that there are none
    first: Maps = []
    for part in positions.split(READ_IMAGES):
        maps = read(part)
        first = first or [x[:1] for x in maps]
        for x, alone in zip(maps, first, strict=True):
            deviation, scale = (x - alone).square().mean().sqrt(), alone.square().mean().sqrt()
            if not deviation <= LEAST_SHARE * scale:  # also where a feature is not finite, which its reader names
                return
    raise NoVariation(
        "training images must differ; all of them have the same features. Check that they are not copies of one "
        "image, and not blank (a covered lens, a wrong white level)."
    )
