"""The settings of the deletion test. This file does not import torch: that takes seconds, and a command only reads it."""

from pydantic import BaseModel, ConfigDict, Field


class DeletionConfig(BaseModel):
    """steps: deletions of equal size. cells: their number along the shorter side; a cell is deleted as a whole, since
    scattered pixels of another picture are a texture of their own. feather: standard deviation of the soft edge of deleted
    places, as a share of a cell, since a seam is an anomaly too. random_orders: the random figure is the mean of this many.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(20, ge=2)
    cells: int = Field(8, ge=2)
    feather: float = Field(0.5, ge=0)
    random_orders: int = Field(5, ge=1)
    seed: int = 0
