"""What building a backbone found out, as an artifact keeps it, so that loading repeats no forward pass.

This file does not import torch: that takes seconds, and most callers only read a config.
"""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

MOST_CHANNELS, MOST_CELLS = 2**16, 2**13  # of a tap; of a side of its map

Cells = Annotated[int, Field(ge=1, le=MOST_CELLS)]
Size = tuple[Cells, Cells]
Channels = Annotated[int, Field(ge=1, le=MOST_CHANNELS)]


class Structure(BaseModel):
    """The parts of a network that are left out, joined or exact, and the maps that it gives.

    Layers are named as in timm's network. sizes: of the images that a detector feeds, (height, width), the largest first.
    channels: of every tap. grids: rows and columns of every tap, per size. pruned: layers that no tap depends on; nothing
    stands in their place. folded: convolutions, each with the batch norm that was folded into it. float32: convolutions that
    bf16 computes in float32 (models/backbones/exact_layers.py); fp16 does so with the depthwise ones only. version: of this
    description.

    >>> found = Structure(sizes=((64, 96),), channels=(128,), grids=(((4, 6),),), pruned=("fc",), folded=(), float32=())
    >>> found.model_dump(mode="json")["grids"]
    [[[4, 6]]]
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    sizes: tuple[Size, ...]
    channels: tuple[Channels, ...]
    grids: tuple[tuple[Size, ...], ...]
    pruned: tuple[str, ...]
    folded: tuple[tuple[str, str], ...]
    float32: tuple[str, ...]

    @model_validator(mode="after")
    def _of_one_network(self) -> Self:
        counts = [len(grids) for grids in self.grids]
        if counts != [len(self.channels)] * len(self.sizes):
            raise ValueError(
                f"grids must be those of {len(self.channels)} taps at {len(self.sizes)} sizes; got {counts}. Train again."
            )
        return self
