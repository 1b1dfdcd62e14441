from pydantic import BaseModel

from models.backbones.config import BackboneConfig
from models.config import ArtifactConfig


class Hyper(BaseModel):
    dims: int = 8
    kernels: tuple[int, ...] = (3, 5)


def test_defaults_fill_what_is_open():
    config = ArtifactConfig(name="m", hyperparameters={"dims": 4}, map_width=10)
    backbone = BackboneConfig(taps=("a",))
    filled = config.filled_in(Hyper(dims=4), backbone, (6, 7))
    assert filled.hyperparameters == {"dims": 4, "kernels": [3, 5]}  # as in the file, where there are no tuples
    assert filled.backbone == backbone
    assert (filled.map_height, filled.map_width) == (6, 10)
    assert config.map_height is None


def test_a_detector_without_a_backbone_says_so():
    assert ArtifactConfig(name="m").filled_in(Hyper(), None, (1, 1)).backbone is None
