"""Measure the scoring run against one process and against the model alone, as ratios in one run on this machine."""

import csv
import json
import os
import platform
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import psutil
import pyarrow as pa
import torch
import typer

from jobs.bench_input import fill, untrained
from jobs.config import load
from jobs.entry import run
from jobs.errors import UsageError
from jobs.score import Job, ScoreSettings, prepare, run_job
from pipeline import ceilings, plan
from pipeline.measure import PeakMemory, Rate, encoded_units, model_alone, one_process
from pipeline.query import connect
from pipeline.run import RunProgress
from pipeline.run_state import RunState
from pipeline.scorer import Scorer, open_scorer, resolve_device
from pipeline.storage import local_copy, open_store
from pipeline.streaming import RayEngine
from schemas.version import VERSION

MIB = 1 << 20


def main(
    store: Annotated[str | None, typer.Option(help="place for made-up images and tables: s3://bucket/prefix or a path")] = None,
    input: Annotated[str | None, typer.Option(help="images of your own instead of made-up ones")] = None,
    output: Annotated[str | None, typer.Option(help="an empty place for the tables, with --input; not cleaned up")] = None,
    model: Annotated[str | None, typer.Option(help="directory of the trained model; default: an untrained one")] = None,
    images: Annotated[int, typer.Option(help="how many images to make up")] = 2000,
    in_memory: Annotated[int, typer.Option(help="images of the in-memory cases")] = 960,
    precision: Annotated[str, typer.Option(help="of the untrained model: float32 or bf16")] = "float32",
    image_size: Annotated[int, typer.Option(help="of the untrained model, pixels")] = 256,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda")] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file as for flowscore score")] = None,
    csv_file: Annotated[Path | None, typer.Option("--csv", help="append the figures to this file")] = None,
) -> None:
    with TemporaryDirectory(prefix="flowscore-bench-") as folder:
        if store:
            input, output = f"{store}/images-{images}", f"{store}/tables-{time.time_ns()}"
            print(f"{fill(open_store(input), images):,} images in {input}", flush=True)
        elif not input or not output:
            raise UsageError("--store", "given, or --input and --output", store, "Name a bucket: --store s3://bucket/bench")
        if not model:
            model = str(untrained(Path(folder) / "model", image_size, precision))
        settings = load(ScoreSettings, config, model=model, output=output, input=input, device=device)
        figures, limit = measure(settings, in_memory)
    for name, figure in figures.items():
        print(f"{name:<22} {figure}")
    print(limit)
    if csv_file:
        _append(csv_file, figures)


def measure(settings: ScoreSettings, in_memory: int) -> tuple[dict[str, Any], str]:
    """The figures by name, and one sentence on what limits the run.

    The one-process case is measured before and after the run: their spread says how quiet the machine was.
    """
    job = prepare(settings)
    engine = RayEngine(settings.address, settings.resources, settings.device)
    resources = engine.start()
    torch.set_num_threads(resources.threads or 1)
    best = ceilings.measure(resolve_device(settings.device))  # before the scorer, whose threads have one thread an operation
    scorer = open_scorer(local_copy(settings.model, settings.cache_dir.expanduser()), settings.device, resources.threads)
    encoded = _in_memory(job, in_memory)
    shape = (scorer.batch_size * 4, job.scoring.decode.height, job.scoring.decode.width, 3)
    pixels = np.random.default_rng(0).integers(0, 255, shape, np.uint8)

    one_process(encoded[:1], job.scoring.decode, scorer)
    alone = model_alone(pixels, scorer, seconds=10)
    single = [one_process(encoded, job.scoring.decode, scorer)]
    whole, progress, memory = _whole_run(job, settings, engine)
    single.append(one_process(encoded, job.scoring.decode, scorer))
    seconds = _stage_seconds(settings.output, job.state.run_id)

    single_per_s = statistics.median(rate.per_s for rate in single)
    figures = {
        "flowscore": VERSION,
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "device": scorer.label,
        "threads": resources.threads,
        "images": whole.images,
        "whole_run_per_s": round(whole.per_s, 2),
        "one_process_per_s": round(single_per_s, 2),
        "model_alone_per_s": round(alone.per_s, 2),
        "whole_to_one_process": round(whole.per_s / single_per_s, 3),
        "whole_to_model_alone": round(whole.per_s / alone.per_s, 3),
        "one_process_spread": round(max(r.per_s for r in single) / min(r.per_s for r in single), 3),
        "driver_peak_mib": round(memory.driver / MIB),
        "workers_peak_mib": round(memory.workers / MIB),
        "bytes_read": progress.bytes_read,
        "errors": progress.errors,
        **_roofline(scorer, best, alone),
    } | {f"{stage}_s": round(spent, 2) for stage, spent in seconds.items()}
    return figures, _limit(whole, seconds, resources.scorers or 1)


def _in_memory(job: Job, images: int) -> list[pa.Table]:
    """The encoded images of the first units, so many or a few more, read by this process."""
    tables, count = [], 0
    with TemporaryDirectory(prefix="flowscore-bench-") as folder:
        state = RunState(folder, "bench")
        number = plan.plan_slice(state, job.scoring, open_store(job.scoring.source.input_uri))
        if number is None:
            raise ValueError(f"input must hold images; found none under {job.scoring.source.input_uri}")
        for table in encoded_units(plan.units(state, number), job.scoring, open_store(job.scoring.source.input_uri)):
            tables.append(table)
            count += table.num_rows
            if count >= images:
                break
    return tables


def _whole_run(job: Job, settings: ScoreSettings, engine: RayEngine) -> tuple[Rate, RunProgress, PeakMemory]:
    last = RunProgress()

    def remember(progress: RunProgress) -> None:
        nonlocal last
        last = progress

    clock = time.perf_counter()
    with PeakMemory() as memory:
        run_job(job, settings, engine, remember)
    return Rate(last.done, time.perf_counter() - clock), last, memory


def _stage_seconds(output: str, run_id: str) -> dict[str, float]:
    rows = connect(output).connection.execute("select stage_seconds from runs where run_id = ?", [run_id]).fetchall()
    return {name: seconds for (stages,) in rows for name, seconds in json.loads(stages).items()}


def _limit(whole: Rate, seconds: dict[str, float], scorers: int) -> str:
    busy = seconds.get("score", 0.0) / (whole.seconds * scorers)
    cpu = psutil.cpu_count() or 1
    return (
        f"limit: scorers were busy {busy:.0%} of the {whole.seconds:.1f} s from plan to tables; all stages together spent "
        f"{sum(seconds.values()):.1f} s on {cpu} cores"
    )


def _roofline(scorer: Scorer, best: ceilings.Ceilings, alone: Rate) -> dict[str, float]:
    """What an image takes of the model, what the device can do at best, and how much of that the model alone reaches."""
    counted = scorer.count()
    flops = {kind: number / scorer.batch_size for kind, number in counted.flops.items()}
    return (
        {f"gflop_{kind}_per_image": round(number / 1e9, 3) for kind, number in flops.items()}
        | {f"gflop_{kind}_ceiling_per_s": round(number / 1e9) for kind, number in best.flops_per_s.items()}
        | {
            "mb_per_image": round(counted.bytes / scorer.batch_size / 1e6, 1),
            "gb_ceiling_per_s": round(best.bytes_per_s / 1e9, 1),
            "share_of_arithmetic": round(best.least_seconds(flops, 0) * alone.per_s, 3),
        }
    )


def _append(path: Path, figures: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, figures)
        if new:
            writer.writeheader()
        writer.writerow(figures)


if __name__ == "__main__":
    run(main)
