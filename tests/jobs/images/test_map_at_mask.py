import numpy as np
import pytest

from jobs.images.map_at_mask import at_mask
from models.roi.region import RegionOfInterest, cells_inside
from pipeline.decode.config import DecodeConfig


@pytest.mark.parametrize("resize", ["squash", "pad"])
def test_a_map_is_enlarged_from_the_cells_that_count_alone(resize: str) -> None:
    mask = np.zeros((20, 20), bool)
    mask[:, :10] = True
    decode = DecodeConfig(height=8, width=16, resize=resize, roi=RegionOfInterest.of(mask))
    counted = cells_inside(decode, (4, 8))
    cells = np.where(counted, np.float32(1), np.float32(-9))
    shown = at_mask(cells, (20, 20), {"width": 20, "height": 20}, decode)
    assert shown.shape == (20, 20) and np.allclose(shown[mask], 1)
    assert (at_mask(cells, (20, 20), {"width": 20, "height": 20}, decode.model_copy(update={"roi": None}))[mask] < 0).any()
