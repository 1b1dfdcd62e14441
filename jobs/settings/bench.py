"""What `flowscore bench` is told."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from jobs.benchmark.cases import Case
from jobs.benchmark.estimate import Prices
from jobs.command.flags import Flag, Named
from jobs.settings.scoring import ScoreSettings, ScoringOptions


class BenchSettings(ScoringOptions):
    """Settings of `flowscore bench`, with the options of the scoring runs that it measures."""

    case: Flag[list[str]] = Field([], description="a case to measure; repeat for several")
    list_cases: Annotated[bool, Named("--list")] = Field(False, description="name the cases and end")
    measure: Flag[list[str]] = Field([], description="in-memory, decode-only or end-to-end; repeat for several")
    plan: Flag[int | None] = Field(None, ge=1, description="instead: estimate a run over so many images")
    nodes: Flag[int] = Field(8, ge=1, description="of --plan: for 1, 2, 4, ... and so many nodes")
    size: Flag[str | None] = Field(None, description="WIDTHxHEIGHT of the images as they are stored")
    store: Flag[str | None] = Field(None, description="place for made-up images and tables: s3://bucket/prefix or a path")
    input: Flag[str | None] = Field(None, description="images of your own instead of made-up ones")
    output: Flag[str | None] = Field(None, description="an empty place for the tables, with --input; not cleaned up")
    model: Flag[str | None] = Field(None, description="directory of the trained model; default: an untrained one")
    images: Flag[int] = Field(2000, ge=1, description="how many images to make up")
    in_memory_images: Annotated[int, Named("--in-memory")] = Field(
        960, ge=1, description="images of end-to-end's in-memory parts"
    )
    seconds: Flag[float] = Field(10.0, ge=0, lt=86_400, description="of each rate that is measured from memory")
    precision: Flag[str | None] = Field(None, description="of untrained models: float32 or bf16")
    image_size: Flag[int | None] = Field(None, description="of the untrained model without --case, pixels")
    csv_file: Annotated[Path | None, Named("--csv")] = Field(
        None, description="append the figures to this file; --plan reads it"
    )
    save: Flag[bool] = Field(False, description="append them to docs/benchmarks/throughput/HARDWARE.csv")
    cases: dict[str, Case] = Field({}, description="further cases by name")
    prices: Prices = Field(Prices(), description="what a node is and costs, for --plan")

    def scoring_run(self, model: str, input: str, output: str) -> ScoreSettings:
        """Settings of one scoring run that is measured."""
        options = {name: getattr(self, name) for name in ScoringOptions.model_fields}
        return ScoreSettings(model=model, input=input, output=output, **options)
