"""The settings of `flowscore bench`."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from jobs.benchmark.cases import Case
from jobs.benchmark.prices import Prices
from jobs.command.flags import Flag, Named
from jobs.settings.scoring import ScoreSettings, ScoringOptions


class BenchSettings(ScoringOptions):
    """Settings of `flowscore bench`, with the options of the scoring runs that it measures."""

    case: Flag[list[str]] = Field([], description="a case to measure; repeat for several")
    list_cases: Annotated[bool, Named("--list")] = Field(False, description="list the cases and end")
    measure: Flag[list[str]] = Field([], description="in-memory, decode-only or end-to-end; repeat for several")
    plan: Flag[int | None] = Field(None, ge=1, description="estimate a run over this many images instead of measuring one")
    nodes: Flag[int] = Field(8, ge=1, description="--plan estimates for 1, 2, 4, ... and this many nodes")
    size: Flag[str | None] = Field(None, description="WIDTHxHEIGHT of the stored images")
    store: Flag[str | None] = Field(None, description="place for made-up images and tables: s3://bucket/prefix or a path")
    input: Flag[str | None] = Field(None, description="images of your own instead of made-up ones")
    output: Flag[str | None] = Field(None, description="an empty place for the tables, with --input; not cleaned up")
    model: Flag[str | None] = Field(None, description="directory of the trained model; default: an untrained one")
    images: Flag[int] = Field(2000, ge=1, description="how many images to make up")
    in_memory_images: Annotated[int, Named("--in-memory")] = Field(
        960, ge=1, description="images in memory for parts of end-to-end"
    )
    seconds: Flag[float] = Field(10.0, ge=0, lt=86_400, description="length of each measurement from memory")
    precision: Flag[str | None] = Field(None, description="precision of untrained models: float32, bf16 or fp16")
    image_size: Flag[int | None] = Field(None, description="input size of the untrained model without --case, pixels")
    csv_file: Annotated[Path | None, Named("--csv")] = Field(
        None, description="append the figures to this file; --plan reads it"
    )
    save: Flag[bool] = Field(False, description="append the figures to docs/benchmarks/throughput/HARDWARE.csv")
    cases: dict[str, Case] = Field({}, description="further cases by name")
    prices: Prices = Field(Prices(), description="size and price of a node, for --plan")

    @model_validator(mode="after")
    def _decoded_on_the_cpu(self) -> Self:
        if self.decoder == "cuda":
            rule = "cpu for bench, whose parts and one process decode on the CPU"
            raise ValueError(f"decoder must be {rule}; got 'cuda'. Leave it out.")
        return self

    def scoring_run(self, model: str, input: str, output: str) -> ScoreSettings:
        """The settings of one measured scoring run."""
        options = {name: getattr(self, name) for name in ScoringOptions.model_fields}
        return ScoreSettings(model=model, input=input, output=output, **options)
