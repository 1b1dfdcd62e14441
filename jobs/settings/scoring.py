"""The settings of `flowscore score`; `flowscore bench` shares all of them but model and places."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from jobs.command.flags import Flag, Flags, Named
from jobs.settings.verdicts import VerdictOptions
from models.config import FULL_16_BIT
from models.explain.methods import Method
from pipeline.decode.config import known_zone
from pipeline.input.config import SourceConfig, SourceOptions
from pipeline.run import RunLimits
from pipeline.scoring.device import DeviceSetting
from pipeline.stages.cluster import Resources


class ScoringOptions(BaseModel):
    """How a scoring run reads, computes and publishes, for any model and any places."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: Annotated[SourceOptions, Flags("key_pattern", "date", "image_id", "input_name", "members", "follow_links")] = Field(
        SourceOptions(), description="how images are found, cut into work units and named"
    )
    device: Flag[DeviceSetting] = Field("auto", description="where images are scored")
    address: Flag[str | None] = Field(None, description="Ray cluster to join; default: RAY_ADDRESS, else this machine")
    # Regions choose the images, since verdicts need a calibration, which may come later.
    explain: Flag[Method | None] = Field(None, description="method that explains images with a region")
    cache_dir: Path = Field(Path("~/.cache/flowscore"), description="folder that a remote model is copied to")
    max_image_pixels: int | None = Field(None, gt=0, description="most pixels of one image; larger ones go to `errors`")
    max_decode_bytes: int | None = Field(None, gt=0, description="most bytes of memory that the decoder's process may take")
    timezone: str | None = Field(None, description="time zone of EXIF times without an offset: Europe/Berlin; default UTC")
    decoder: Literal["cpu", "cuda"] | None = Field(
        None, description="cuda: the GPU that scores decodes JPEGs, to slightly other pixels and scores; default cpu"
    )
    resources: Resources = Field(Resources(), description="how the stages share the machines")
    limits: Annotated[RunLimits, Flags("max_error_share", "min_errors", "accept_errors")] = Field(
        RunLimits(), description="limits that scores do not depend on"
    )

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, name: str | None) -> str | None:
        return None if name is None else known_zone(name)

    @model_validator(mode="after")
    def _decoder_on_its_device(self) -> Self:
        if self.decoder == "cuda" and self.device != "cuda":  # with auto, a slice could be planned that no machine here scores
            rule = f"cpu where device is {self.device}"
            raise ValueError(f"decoder must be {rule}; got 'cuda'. Leave it out, or set device to cuda.")
        return self


class ScoreSettings(ScoringOptions):
    """Settings of `flowscore score`: its flags and the keys of its YAML file."""

    model: Flag[str] = Field(description="directory of the trained model, local or s3://")
    input: Annotated[str, Named(also=("source", "input_uri"))] = Field(description="images: a local path or s3://bucket/prefix")
    output: Flag[str] = Field(description="where tables and run state live: a local path or s3://")
    verdicts: Annotated[VerdictOptions, Flags("rate", "review_budget", "decided_by")] = Field(
        VerdictOptions(), description="by what scores become verdicts, once the model is calibrated"
    )
    from_now_on: Flag[bool] = Field(
        False, description="let another version of the model score from the day after the last one with images"
    )
    retry_errors: Flag[bool] = Field(False, description="also score images again that are in `errors`")
    listing: Flag[Path | None] = Field(
        None, description="CSV or Parquet file with the columns key, size, etag of the input's objects, instead of listing it"
    )
    white_level: Flag[int | None] = Field(
        None, ge=255, le=FULL_16_BIT, description="sample that is white in a 16-bit grey image; default: the model's"
    )

    def source_of_input(self) -> SourceConfig:
        """The input with its reading options."""
        return self.source.at(self.input)
