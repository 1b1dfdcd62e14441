"""Settings of `flowscore explain`."""

import re
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from jobs.command.errors import UsageError
from jobs.command.flags import Flag
from models.explain.deletion_config import DeletionConfig
from models.explain.methods import Method
from pipeline.scoring.device import DeviceSetting

GOODS = 8  # good images at most; an image that is scored by tiles gives its middle tile
PICTURES = "explanations"
IMAGE_ID = re.compile("[0-9a-f]{32}")


class ExplainSettings(BaseModel):
    """Settings of `flowscore explain`, which explains images at --input, or those of --image-id from the tables."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: Flag[str | None] = Field(
        None,
        description="the model: a folder or s3://bucket/prefix; with --image-id its name, default: the last that scored it",
    )
    input: Flag[str | None] = Field(None, description="an image, or a folder, shard or s3://bucket/prefix of them")
    image_id: Flag[list[str]] = Field(
        [], description="image_id of an image in the tables, which also name its model; may be repeated"
    )
    output: Flag[str] = Field(
        description="folder or s3://bucket/prefix for the pictures; with --image-id the place of the tables"
    )
    pictures: Flag[str | None] = Field(
        None, description=f"with --image-id: folder or s3://bucket/prefix for the pictures; default: {PICTURES}"
    )
    method: Flag[Literal[Method, "all"]] = Field("all", description="how places are found")
    layer: Flag[str | None] = Field(None, description="layer of the backbone for Grad-CAM; default: the deepest tap")
    limit: Flag[int] = Field(16, ge=1, description="images of --input at most, the first by name")
    good: Flag[str | None] = Field(
        None, description=f"good image, or folder of them (the first {GOODS}), that fills deleted places in the test"
    )
    device: Flag[DeviceSetting] = Field("auto", description="where the model computes")
    cache_dir: Path = Field(Path("~/.cache/flowscore"), description="folder that a remote model is copied to")
    deletion: DeletionConfig = Field(DeletionConfig(), description="the deletion test")

    @property
    def place(self) -> str:
        """Where the pictures go."""
        return (self.pictures or PICTURES) if self.image_id else self.output

    @property
    def place_flag(self) -> str:
        return "--pictures" if self.image_id else "--output"


def check(settings: ExplainSettings) -> None:
    """Raises UsageError for flags that do not go together."""
    if settings.image_id:
        if settings.input is not None:
            fix = "The tables say where the image is: leave out --input or --image-id."
            raise UsageError("--input", "left out with --image-id", settings.input, fix)
        for image_id in settings.image_id:
            if not IMAGE_ID.fullmatch(image_id):
                fix = (
                    f'Ask for it: flowscore query --output {settings.output} "select image_id, uri, member, score from scores".'
                )
                raise UsageError("--image-id", "32 hex digits, as in the column image_id", image_id, fix)
        return
    for flag, given in (("--model", settings.model), ("--input", settings.input)):
        if given is None:
            fix = "Add it, or name an image of the tables by --image-id."
            raise UsageError(flag, "given without --image-id", None, fix)
    if settings.pictures is not None:
        raise UsageError("--pictures", "left out without --image-id", settings.pictures, "Give that place as --output.")
