"""Even light: a picture divided by the plane that fits its brightness, before anything else of a model reads it.

This is retrospective shading correction with a polynomial of the first order (Tomaževič, Likar, Pernuš 2002, "Comparative
evaluation of retrospective shading correction methods", Journal of Microscopy 208): the surface is taken to be alike all over,
so what rises evenly over the whole picture is light. Defects that are smaller than the picture stay.
"""

import torch
from torch import Tensor, nn

MOST = 4.0  # what a pixel is multiplied by at most, where the plane is near black or below


class ShadingCorrection(nn.Module):
    """Divides images by their own planes of brightness, and multiplies them by their mean.

    The plane is fitted by least squares to the sum of the three colours, with one factor for all of them, so colours keep
    their hue. Sums are of whole numbers: an image's result has the same bits in every batch and on every device.

    >>> correct = ShadingCorrection(None, (2, 3))
    >>> image = torch.tensor([60, 100, 140], dtype=torch.uint8).view(1, 1, 3, 1).expand(1, 2, 3, 3)
    >>> correct(image)[0, 0, :, 0]
    tensor([100, 100, 100], dtype=torch.uint8)
    """

    counted: Tensor | None
    down: Tensor
    across: Tensor

    def __init__(self, pixels: Tensor | None, size: tuple[int, int]):
        """pixels: (H, W) bool, those that the plane is fitted to; None: all. size: (H, W)."""
        super().__init__()
        # All follow from the artifact's config, so a state dict need not hold them.
        down, across = (2 * torch.arange(side) - (side - 1) for side in size)  # whole numbers, 0 in the middle
        self.register_buffer("down", down, persistent=False)
        self.register_buffer("across", across, persistent=False)
        self.register_buffer("counted", pixels, persistent=False)
        self.count = size[0] * size[1] if pixels is None else int(pixels.sum())
        weights = (torch.ones_like(across), down[:, None], across)
        moments = [[int(x) for x in self._sums(weight.expand(1, *size))] for weight in weights]
        self._inverse = _inverse(moments)

    def forward(self, images: Tensor) -> Tensor:
        """(B, H, W, 3), uint8, RGB, to the same, rounded, and clipped to 0..255 as a sensor saturates."""
        red, green, blue = images.unbind(3)
        sums = [x.double() for x in self._sums(red.int() + green + blue)]  # 3 of (B,)
        level, slope_down, slope_across = (a * sums[0] + b * sums[1] + c * sums[2] for a, b, c in self._inverse)
        mean = torch.where(sums[0] > 0, sums[0] / self.count, 1.0)
        level, slope_down, slope_across = ((x / mean).float()[:, None, None] for x in (level, slope_down, slope_across))
        plane = level + slope_down * self.down[:, None] + slope_across * self.across  # (B, H, W), 1 in the mean
        factor = 1 / plane.clamp(min=1 / MOST)
        return (images * factor[..., None]).round_().clamp_(0, 255).to(torch.uint8)

    def _sums(self, grey: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, H, W) of whole numbers to its sums, as it is, times the row's place and times the column's, (B,) each."""
        if self.counted is not None:
            grey = grey * self.counted
        rows, columns = grey.sum(2), grey.sum(1)  # (B, H), (B, W)
        return rows.sum(1), (rows * self.down).sum(1), (columns * self.across).sum(1)


def _inverse(moments: list[list[int]], flat: int = 0) -> list[list[float]]:
    """Of the matrix of a plane's normal equations, 3 x 3, exact and then rounded: a library's depends on the machine.

    flat: weight of no slope. Pixels of one line have no plane of their own, and get it.

    >>> _inverse([[2, 0, 0], [0, 1, 0], [0, 0, 4]]), _inverse([[2, 0, 0], [0, 0, 0], [0, 0, 3]])
    ([[0.5, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.25]], [[0.5, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.25]])
    """
    (n, y, x), (_, yy, xy), (_, _, xx) = moments
    yy, xx = yy + flat, xx + flat
    cofactors = [
        [yy * xx - xy * xy, x * xy - y * xx, y * xy - x * yy],
        [x * xy - y * xx, n * xx - x * x, x * y - n * xy],
        [y * xy - x * yy, x * y - n * xy, n * yy - y * y],
    ]
    determinant = n * cofactors[0][0] + y * cofactors[0][1] + x * cofactors[0][2]
    if determinant == 0:
        return _inverse(moments, flat=1)
    return [[cofactor / determinant for cofactor in row] for row in cofactors]
