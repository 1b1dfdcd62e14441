"""The two measures of `flowscore bench` that need neither storage nor Ray: the model alone, and decoding alone."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import torch

from jobs.benchmark import ceilings
from jobs.benchmark.ceilings import Ceilings
from jobs.benchmark.figures import Figure, Measured
from jobs.benchmark.hardware import described
from jobs.benchmark.inputs import jpegs
from jobs.benchmark.measure_names import DECODE_ONLY, IN_MEMORY
from jobs.benchmark.rates import Rate, decode_alone, model_alone, pillow_alone
from jobs.benchmark.roofline import Roofline
from models.config import ArtifactConfig
from pipeline.decode.config import DecodeConfig
from pipeline.in_process import encoded_units
from pipeline.input.config import SourceConfig
from pipeline.scoring.device import resolve_device
from pipeline.scoring.scorer import Scorer, open_scorer

DECODED, COPIES = 16, 4  # distinct images of decode-only, and copies of each that are decoded at once
MIB = 1 << 20
TURNS = 3  # ours and Pillow's alternate, so that another process on the machine slows both


@cache
def ceilings_of(device: str, threads: int) -> Ceilings:
    """The device's ceilings with this many threads, measured once in a command."""
    torch.set_num_threads(threads)
    return ceilings.measure(resolve_device(device))


def in_memory(case: str, model: Path, decode: DecodeConfig, device: str, threads: int, seconds: float) -> Measured:
    """Measures the model alone on pixels in memory, beside the device's ceilings."""
    best = ceilings_of(device, threads)
    scorer = open_scorer(model, device, threads)
    figures, roofline = alone(scorer, decode, best, threads, seconds)
    return Measured(case, IN_MEMORY, scorer.label, figures, sentences=(roofline.sentence(described(resolve_device(device))),))


def alone(scorer: Scorer, decode: DecodeConfig, best: Ceilings, threads: int, seconds: float) -> tuple[list[Figure], Roofline]:
    """Figures of the model alone: its rate with all threads, operations and bytes of an image, ceilings and shares. If the
    model scores by tiles, a tile counts as an image."""
    batches = threads if scorer.device == "cpu" else 2  # of a call; model_alone has two calls under way
    if scorer.device != "cpu":
        torch.cuda.reset_peak_memory_stats(scorer.device)  # the ceilings took more
    shape = (scorer.batch_size * batches, decode.height, decode.width, 3)
    rate = model_alone(np.random.default_rng(0).integers(0, 255, shape, np.uint8), scorer, seconds)
    counted = scorer.count()
    flops = {kind: number / scorer.batch_size for kind, number in counted.flops.items()}
    roofline = Roofline(flops, counted.bytes / scorer.batch_size, best, rate.per_s)
    return [
        Figure("model_alone_per_s", round(rate.per_s, 3), "images/s"),
        Figure("threads", threads),
        *(Figure(f"gflop_{kind}_per_image", round(number / 1e9, 4), "GFLOP") for kind, number in flops.items()),
        *(Figure(f"gflop_{kind}_ceiling_per_s", round(number / 1e9), "GFLOP/s") for kind, number in best.flops_per_s.items()),
        Figure("mb_per_image", round(roofline.bytes / 1e6, 1), "MB"),
        Figure("gb_ceiling_per_s", round(best.bytes_per_s / 1e9, 1), "GB/s"),
        Figure("share_of_arithmetic", round(roofline.share_of_arithmetic, 3)),
        Figure("share_of_memory", round(roofline.share_of_memory, 3)),
        *_device_memory(scorer.device),
    ], roofline


def _device_memory(device: str) -> list[Figure]:
    """The most memory of a GPU that tensors took, and that torch kept for them and for its graphs, since the peak was reset."""
    if device == "cpu":
        return []
    peaks = {"allocated": torch.cuda.max_memory_allocated(device), "reserved": torch.cuda.max_memory_reserved(device)}
    return [Figure(f"gpu_{kind}_peak_mib", round(peak / MIB), "MiB") for kind, peak in peaks.items()]


def decode_only(case: str, size: tuple[int, int], decode: DecodeConfig, seconds: float) -> Measured:
    """Measures one core that decodes made-up JPEGs of (width, height) px to the model's input, and Pillow, `seconds` each."""
    contents = list(jpegs(*size, DECODED))
    with TemporaryDirectory(prefix="flowscore-bench-") as folder:
        for number, content in enumerate(contents):
            (Path(folder) / f"{number:03d}.jpg").write_bytes(content)
        encoded = pa.concat_tables(list(encoded_units(SourceConfig(input_uri=folder))) * COPIES)
    turns = [
        (decode_alone([encoded], decode, seconds / TURNS), pillow_alone(contents, decode, seconds / TURNS))
        for _ in range(TURNS)
    ]
    ours, pillow = (Rate(sum(r.images for r in rates), sum(r.seconds for r in rates)) for rates in zip(*turns, strict=True))
    width, height = size
    figures = [
        Figure("decode_per_s", round(ours.per_s, 3), "images/s"),
        Figure("pillow_per_s", round(pillow.per_s, 3), "images/s"),
        Figure("decode_to_pillow", round(ours.per_s / pillow.per_s, 3)),
        Figure("megapixels", round(width * height / 1e6, 3), "MP"),
        Figure("kb_per_image", round(sum(map(len, contents)) / len(contents) / 1e3, 1), "kB"),
    ]
    sentence = (
        f"decoding: a core turns {ours.per_s:.1f} JPEGs of {width}x{height} a second into {decode.width}x{decode.height}, "
        f"{ours.per_s / pillow.per_s:.2f} times what Pillow's open, convert and resize do"
    )
    return Measured(case, DECODE_ONLY, "cpu", figures, f"{width}x{height}", sentences=(sentence,))


def decode_config(config: ArtifactConfig) -> DecodeConfig:
    """The config that decodes images to a model's input, with default limits."""
    return DecodeConfig.of(config.input)
