"""Settings of the deletion test. They stand apart from the code, so that a job's settings do not import torch."""

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class DeletionConfig(BaseModel):
    """steps: deletions of equal size. cells: their number along the shorter side; a cell is deleted as a whole, since
    scattered pixels of another picture are a texture of their own. feather: standard deviation of the soft edge of deleted
    places, as a share of a cell, since a seam is an anomaly too. random_orders: other places that a map is tried at; one that
    knows nothing is below all of them once in random_orders + 1, so 19 are 5 %.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(10, ge=2)
    cells: int = Field(8, ge=2)
    feather: float = Field(0.5, ge=0)
    random_orders: int = Field(19, ge=1)
    seed: int = 0

    @model_validator(mode="after")
    def _enough_places(self) -> Self:
        if self.random_orders >= self.cells**2:
            raise ValueError(
                f"random_orders must be below cells squared, the places that a map has; got {self.random_orders} and "
                f"{self.cells}. Give fewer orders or more cells."
            )
        return self
