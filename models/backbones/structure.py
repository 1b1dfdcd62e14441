"""What building a backbone found out, as an artifact keeps it, so that loading repeats no forward pass. It does not import torch."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

Size = tuple[int, int]


class Structure(BaseModel):
    """The parts of a network that are left out, joined or exact, and the maps that it gives.

    Layers are named as in timm's network. sizes: of the images that a detector feeds, (height, width), the largest first.
    channels: of every tap. grids: rows and columns of every tap, per size. pruned: layers that no tap depends on; nothing
    stands in their place. folded: convolutions, each with the batch norm that was folded into it. float32: convolutions that
    other precisions compute in float32 (models/backbones/exact_layers.py). version: of this description.

    >>> found = Structure(sizes=((64, 96),), channels=(128,), grids=(((4, 6),),), pruned=("fc",), folded=(), float32=())
    >>> found.model_dump(mode="json")["grids"]
    [[[4, 6]]]
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    sizes: tuple[Size, ...]
    channels: tuple[int, ...]
    grids: tuple[tuple[Size, ...], ...]
    pruned: tuple[str, ...]
    folded: tuple[tuple[str, str], ...]
    float32: tuple[str, ...]
