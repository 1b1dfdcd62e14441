"""A map brought to the size of a mask, from the cells that count."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.maps.content_box import content_box
from models.maps.grids import resized
from models.roi.cells import Cells, pixels_inside
from pipeline.decode.config import DecodeConfig


def at_mask(
    anomaly_map: NDArray[np.float32], shape: tuple[int, ...], row: dict[str, Any], decode: DecodeConfig
) -> NDArray[np.float32]:
    """The (h, w) map enlarged to the mask's (H, W) from the cells that count; the padding of a padded image is cut off."""
    cells = torch.from_numpy(np.ascontiguousarray(anomaly_map))[None]  # (1, h, w)
    counted = Cells(pixels_inside(decode), (cells.shape[1], cells.shape[2]))
    if decode.resize == "pad":
        box = content_box((row["width"], row["height"]), decode)
        cells = counted.resized(cells, (decode.height, decode.width))[:, box.top : box.bottom, box.left : box.right]
        return resized(cells, shape)[0].numpy()
    return counted.resized(cells, shape)[0].numpy()
