"""Image scores from an anomaly map of any detector."""

from torch import Tensor


def top_mean(cells: Tensor, share: float) -> Tensor:
    """Mean of the largest cells of a map (B, h, w), the given share of them and at least one, (B,).

    It lies between the map's mean, which hides a small defect, and its maximum, which one rare cell decides.

    >>> import torch
    >>> top_mean(torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]), share=0.5)
    tensor([3.5000])
    """
    count = max(1, round(share * cells[0].numel()))
    return cells.flatten(1).topk(count, dim=1).values.mean(1)
