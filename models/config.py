"""What an artifact's config.json holds."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from models.backbones import BackboneConfig


class InputConfig(BaseModel):
    """Size that images are brought to, in pixels; pad keeps the aspect ratio, squash does not."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    height: int = Field(default=256, ge=16)
    width: int = Field(default=256, ge=16)
    resize: Literal["squash", "pad"] = "squash"


class ArtifactConfig(BaseModel):
    """Everything that, with the weights, decides a score.

    name: the stable name of the model, the same for every retraining. batch_size: images per fixed batch when scoring.
    map_height, map_width: cells of the anomaly map; None takes the detector's own grid. map_threshold: map value above
    which a cell belongs to a region; None: no regions are computed. backbone: None where a detector trains an encoder of
    its own. trained: how it was made.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9._-]+$")
    detector: str = "csflow"
    input: InputConfig = InputConfig()
    backbone: BackboneConfig | None = BackboneConfig()
    precision: Literal["float32", "bf16"] = "float32"
    batch_size: int = Field(16, ge=1)
    map_height: int | None = Field(None, ge=1)
    map_width: int | None = Field(None, ge=1)
    map_threshold: float | None = Field(None, allow_inf_nan=False)
    hyperparameters: dict[str, Any] = {}
    trained: dict[str, Any] = {}
