"""The end-to-end measure of `flowscore bench`: a scoring run from storage to tables, beside one process, the model alone and
the estimate of the cost model."""

import json
import statistics
import time
from dataclasses import dataclass

import pyarrow as pa
import ray

from jobs.benchmark.alone import alone, ceilings_of
from jobs.benchmark.cost import Estimate, Node, Rates, estimate
from jobs.benchmark.figures import Figure, Measured
from jobs.benchmark.hardware import described
from jobs.benchmark.measure_names import END_TO_END
from jobs.benchmark.rates import PeakMemory, Rate, decode_alone, one_process, scorer_start_s
from jobs.score import joined, prepare
from jobs.settings.scoring import ScoreSettings
from pipeline.in_process import encoded_units
from pipeline.run import EmptyInput, RunProgress, ScoringRun, score_archive
from pipeline.scoring.scorer import open_scorer
from pipeline.stages.engine import RayEngine
from pipeline.storage.copies import local_copy
from pipeline.tables.query import open_tables

MIB = 1 << 20
DECODE_SECONDS = 3.0


@dataclass
class Watched:
    """Records a run's progress: seconds until its first and its last unit were committed, and the images done by then."""

    began: float
    first_s: float = 0.0
    first_images: int = 0
    committed_s: float = 0.0
    done: int = 0
    progress: RunProgress | None = None

    def __call__(self, progress: RunProgress) -> None:
        spent = time.perf_counter() - self.began
        if not self.first_s and progress.done:
            self.first_s, self.first_images = spent, progress.done
        if progress.done > self.done:  # the run calls at its end too
            self.committed_s, self.done = spent, progress.done
        self.progress = progress

    def steady(self) -> list[Figure]:
        """The rate between the first and the last commit, while the stages were full; none of a run with one commit."""
        if self.progress is None or self.progress.done == self.first_images:
            return []
        images, spent = self.progress.done - self.first_images, self.committed_s - self.first_s
        return [Figure("steady_run_per_s", round(images / spent, 3), "images/s")]


def end_to_end(case: str, settings: ScoreSettings, in_memory: int, seconds: float, stored_size: str) -> Measured:
    """Measure the parts, then the run, then one process again: the spread of its rates shows how quiet the machine was.

    estimate_error compares the estimate (jobs/benchmark/cost.py), made of the parts before the run, with the run from plan to
    tables. The time of finalize is not known before a run, so that estimate lacks it.

    Args:
        in_memory: number of images for the parts that read from memory.
        seconds: length of the model's measurement.
    """
    run = prepare(settings)
    decode = run.scoring(run.trained.digest, run.trained.config).decode
    engine = joined(settings, run)
    resources = engine.start()
    threads = resources.threads or 1
    best = ceilings_of(resources.device, threads)
    cache = settings.cache_dir.expanduser()
    scorer = open_scorer(local_copy(settings.model, cache), resources.device, threads)
    encoded, read = _in_memory(run, in_memory)

    one_process(encoded[:1], decode, scorer)
    figures, roofline = alone(scorer, decode, best, threads, seconds)
    model = figures[0].value
    rates = None
    if scorer.tiling is None:
        decoding = decode_alone(encoded, decode, DECODE_SECONDS)
        start_s = scorer_start_s(settings.model, cache, resources, decode)
        on_gpu = scorer.device != "cpu"
        filled = slots_per_image(encoded, scorer.batch_size)
        model_s = filled * (1 / model if on_gpu else threads / model)
        rates = Rates(on_gpu, 1 / decoding.per_s, model_s, other_s=1 / read.per_s, once_s=start_s)
        figures += [
            Figure("decode_per_s", round(decoding.per_s, 3), "images/s"),
            Figure("read_ms_per_image", round(1e3 / read.per_s, 4), "ms"),
            Figure("slots_per_image", round(filled, 4)),
            Figure("start_s", round(start_s, 2), "s"),
        ]
    single = [one_process(encoded, decode, scorer)]
    whole, watched, memory = _whole_run(run, engine)
    single.append(one_process(encoded, decode, scorer))
    stages = _stage_seconds(settings.output, run.ledger.model)
    single_per_s = statistics.median(rate.per_s for rate in single)
    assert watched.progress is not None
    figures += [
        Figure("images", whole.images),
        Figure("whole_run_per_s", round(whole.per_s, 3), "images/s"),
        *watched.steady(),
        Figure("one_process_per_s", round(single_per_s, 3), "images/s"),
        Figure("whole_to_one_process", round(whole.per_s / single_per_s, 3)),
        Figure("whole_to_model_alone", round(whole.per_s / model, 3)),
        Figure("one_process_spread", round(max(r.per_s for r in single) / min(r.per_s for r in single), 3)),
        Figure("driver_peak_mib", round(memory.driver / MIB), "MiB"),
        Figure("workers_peak_mib", round(memory.workers / MIB), "MiB"),
        Figure("bytes_read", watched.progress.bytes_read, "bytes"),
        Figure("errors", watched.progress.errors),
        *(Figure(f"{stage}_s", round(spent, 3), "s") for stage, spent in stages.items()),
        Figure("first_unit_s", round(watched.first_s, 2), "s"),
        Figure("finalize_s", round(whole.seconds - watched.committed_s, 2), "s"),
        Figure("whole_run_s", round(whole.seconds, 2), "s"),
    ]
    sentences = [roofline.sentence(described(scorer.device)), _limit(whole, watched, stages, resources.scorers or 1)]
    if rates is None:
        sentences.append("estimate: none for a model that scores by tiles, whose number depends on each image's size")
    else:
        expected = estimate(whole.images, rates, _cluster())
        error = expected.seconds / whole.seconds - 1
        figures += [Figure("estimated_s", round(expected.seconds, 2), "s"), Figure("estimate_error", round(error, 3))]
        sentences.append(_estimated(expected, rates, whole, error))
    storage = settings.input.partition("://")[0] if "://" in settings.input else "file"
    return Measured(case, END_TO_END, scorer.label, figures, stored_size, storage, tuple(sentences))


def _in_memory(run: ScoringRun, images: int) -> tuple[list[pa.Table], Rate]:
    """The encoded images of the first units, at least `images` if there are, and the rate at which this process read them."""
    tables, count = [], 0
    clock = time.perf_counter()
    for table in encoded_units(run.source):
        tables.append(table)
        count += table.num_rows
        if count >= images:
            break
    if not tables:
        raise EmptyInput(f"input must hold images; found none under {run.source.input_uri}. Check --input.")
    return tables, Rate(count, time.perf_counter() - clock)


def slots_per_image(units: list[pa.Table], batch_size: int) -> float:
    """Batch slots for each image; above 1, since a unit's last batch is filled up with blanks."""
    slots = sum(-(-unit.num_rows // batch_size) * batch_size for unit in units)
    return slots / sum(unit.num_rows for unit in units)


def _whole_run(run: ScoringRun, engine: RayEngine) -> tuple[Rate, Watched, PeakMemory]:
    watched = Watched(time.perf_counter())
    with PeakMemory() as memory:
        score_archive(run, engine, watched)
    spent = time.perf_counter() - watched.began
    assert watched.progress is not None
    return Rate(watched.progress.done, spent), watched, memory


def _stage_seconds(output: str, model: str) -> dict[str, float]:
    """Seconds of each stage, by its name in the table runs, which may get more stages."""
    rows = open_tables(output).connection.execute("select stage_seconds from runs where model = ?", [model]).fetchall()
    return {name: seconds for (stages,) in rows for name, seconds in json.loads(stages).items()}


def _cluster() -> Node:
    """All of Ray's machines, as one node."""
    total = ray.cluster_resources()
    return Node(int(total.get("CPU", 1)), int(total.get("GPU", 0)))


def _limit(whole: Rate, watched: Watched, stages: dict[str, float], scorers: int) -> str:
    """Which part took the largest share of the run."""
    cores = _cluster().cpus
    shares = {
        "the model": stages.get("score", 0.0) / scorers,
        "reading and decoding": (stages.get("read", 0.0) + stages.get("decode", 0.0)) / cores,
        "the start": watched.first_s,
        "finalize": whole.seconds - watched.committed_s,
    }
    shares = {name: spent / whole.seconds for name, spent in shares.items()}
    return (
        f"limit: {max(shares, key=lambda name: shares[name])}; of {whole.seconds:.1f} s from plan to tables the scorers were "
        f"busy {shares['the model']:.0%}, reading and decoding took {shares['reading and decoding']:.0%} of {cores} cores, the "
        f"first unit was done after {shares['the start']:.0%}, and finalize took {shares['finalize']:.0%}"
    )


def _estimated(expected: Estimate, rates: Rates, whole: Rate, error: float) -> str:
    return (
        f"estimate: {expected.seconds:.1f} s without finalize ({rates.once_s:.1f} s of them the start), limited by "
        f"{expected.limit}; the run took {whole.seconds:.1f} s, so the estimate is off by {error:+.1%}"
    )
