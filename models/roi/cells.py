"""Which cells of a detector's maps count, where its model has a region of interest.

A cell counts if any of its pixels is inside. Without a region every method gives its argument back, or does what would be done
without this file.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.maps.grids import resized
from models.roi.region import WithRegion, inside, touched


def pixels_inside(input: WithRegion) -> Tensor | None:
    """The pixels of a model's input that are inside its region of interest, (H, W) bool; None without one.

    >>> from models.config import InputConfig
    >>> pixels_inside(InputConfig()) is None
    True
    """
    found = inside(input)
    return None if found is None else torch.from_numpy(found.copy())


class Cells(nn.Module):
    """The cells of one grid, of rows and columns.

    >>> pixels = torch.tensor([[False, False, False, False], [False, False, False, True]])
    >>> cells = Cells(pixels, (1, 2))
    >>> cells.mask, cells.only(torch.tensor([[[3.0, 5.0]]]))
    (tensor([[False,  True]]), tensor([[[5.]]]))
    >>> Cells(None, (1, 2)).only(torch.tensor([[[3.0, 5.0]]]))
    tensor([[[3., 5.]]])
    """

    mask: Tensor | None
    index: Tensor | None

    def __init__(self, pixels: Tensor | None, grid: tuple[int, int]):
        """pixels: (H, W) bool, those of the input that are inside; None: all. Of the grid's size, they are the cells."""
        super().__init__()
        self.grid = grid
        mask = pixels if pixels is None or pixels.shape == grid else torch.from_numpy(touched(pixels.numpy(), grid))
        # Both follow from the artifact's config, so a state dict need not hold them.
        self.register_buffer("mask", mask, persistent=False)
        self.register_buffer("index", None if mask is None else mask.flatten().nonzero()[:, 0], persistent=False)

    @property
    def count(self) -> int:
        """How many cells count."""
        return self.grid[0] * self.grid[1] if self.index is None else len(self.index)

    def only(self, x: Tensor) -> Tensor:
        """(..., h, w) to the cells that count, (..., n, 1)."""
        return x if self.index is None else x.flatten(-2).index_select(-1, self.index)[..., None]

    def zeroed(self, x: Tensor) -> Tensor:
        """(..., h, w) of a floating type, 0 in the other cells."""
        return x if self.mask is None else torch.where(self.mask, x, x.new_zeros(()))

    def places(self, numbers: Tensor) -> Tensor:
        """Row-major places in the grid of the cells that count by their numbers from 0 to count - 1, int64, on the CPU."""
        return numbers if self.index is None else self.index.cpu()[numbers]

    def resized(self, x: Tensor, size: tuple[int, ...]) -> Tensor:
        """A map (B, h, w) on another grid, as `models.maps.grids.resized` of the cells that count, whose weights it divides by;
        where none of them has any, the least of the map."""
        if self.mask is None or tuple(size) == self.grid:
            return resized(x, size)
        weights = resized(self.mask[None].to(x.dtype), size)  # (1, H, W)
        means = resized(self.zeroed(x), size) / torch.where(weights > 0, weights, 1.0)
        return torch.where(weights > 0, means, self.least(x))

    def least(self, x: Tensor) -> Tensor:
        """The least value of the cells of maps (B, h, w) that count, (B, 1, 1)."""
        return self.only(x).amin(dim=(1, 2), keepdim=True)

    def silenced(self, x: Tensor, ceiling: float | None) -> Tensor:
        """Maps (B, h, w) whose other cells have the least value of those that count, and at most the ceiling: above such a
        threshold, no cell outside is ever part of a region."""
        if self.mask is None:
            return x
        least = self.least(x)
        return torch.where(self.mask, x, least if ceiling is None else least.clamp(max=ceiling))


def pooled(pixels: Tensor | None, patch: int, stride: int) -> Tensor | None:
    """(H, W) bool to the patches of patch x patch pixels of which any is True, at every stride, (h, w) bool.

    >>> pooled(torch.tensor([[True, False, False], [False, False, False]]), patch=2, stride=1)
    tensor([[ True, False]])
    """
    if pixels is None:
        return None
    found = nn.functional.max_pool2d(pixels[None].float(), patch, stride)
    return found[0] > 0  # (h, w)


def turned(pixels: Tensor | None, index: Tensor, scale_grids: Sequence[Sequence[tuple[int, int]]]) -> nn.ModuleList:
    """The cells of a turned copy that count, for every tap of every scale.

    Args:
        pixels: (H, W) bool, those of the upright image that count; None: all.
        index: of `models.backbones.rotation.rotation_index`; corners that the image does not reach do not count.

    >>> upright = torch.tensor([[True, False], [False, False]])
    >>> turned(upright, torch.tensor([3, 1, 0, 4]), [[(2, 2)]])[0].mask
    tensor([[False, False],
            [ True, False]])
    """
    mask = None if pixels is None else torch.cat([pixels.flatten(), pixels.new_zeros(1)])[index].view(pixels.shape)  # (H, W)
    return nn.ModuleList(Cells(mask, grid) for grids in scale_grids for grid in grids)
