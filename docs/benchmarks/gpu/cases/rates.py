"""Images a second of the model alone, started kernel by kernel, as a graph and compiled, and through the scorer's lanes.

The models are untrained, and whatever is zero in them is drawn: products of zeros run faster than those of data.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import timm
import torch
from cases.place import Place
from cases.subjects import changed

from models import artifact, operations, registry
from models.artifact import Artifact
from models.backbones.config import BackboneConfig
from models.config import ArtifactConfig, InputConfig
from pipeline.scoring.captured import Captured
from pipeline.scoring.scorer import Scorer

SECONDS = {"cuda": 1.5, "cpu": 0.05}  # of one measurement


@dataclass(frozen=True)
class Model:
    """An untrained CS-Flow. measured: precisions and batch sizes, the most important first."""

    backbone: str
    taps: tuple[str | int, ...]
    side_px: int
    on_cpu: str
    measured: tuple[tuple[str, int], ...]


B5 = Model(
    "efficientnet_b5",
    ("blocks.5",),
    768,
    "test_efficientnet",
    (("fp16", 16), ("fp16", 64), ("bf16", 16), ("float32", 16), ("fp16", 128)),
)
MOBILENET = Model(
    "mobilenetv1_100",
    ("blocks.3",),
    256,
    "test_resnet",
    (("fp16", 16), ("fp16", 64), ("fp16", 256), ("bf16", 64), ("float32", 64)),
)


def opened(model: Model, place: Place) -> Artifact:
    """The untrained model in float32, made once."""
    kept = place.folder / model.backbone
    if not kept.exists():
        side = model.side_px if place.on_gpu else 64
        network = BackboneConfig(name=model.backbone, taps=model.taps, weights="none")
        if not place.on_gpu:
            network = BackboneConfig(name=model.on_cpu, weights="none")
        of_here = {"versions": {"timm": timm.__version__}}  # else loading runs the network
        size = InputConfig(height=side, width=side)
        config = ArtifactConfig(name=model.backbone, input=size, backbone=network, trained=of_here)
        made = registry.build(config)
        generator = torch.Generator().manual_seed(0)
        for value in made.state_dict().values():
            if value.is_floating_point() and not value.any():
                value.normal_(std=0.05, generator=generator)
        artifact.save(kept, config, made, card="# untrained")
    return artifact.read(kept)


def pictures(model: Model, place: Place, count: int) -> torch.Tensor:
    side = model.side_px if place.on_gpu else 64
    drawn = torch.randint(0, 256, (count, side, side, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return drawn.to(place.device)


def run(model: Model, place: Place, _: int) -> Iterator[dict[str, Any]]:
    clock = time.perf_counter()
    made = opened(model, place)
    yield {"made_s": round(time.perf_counter() - clock, 1)}
    for precision, batch in model.measured if place.on_gpu else ((precision, 2) for precision, _ in model.measured[:1]):
        clock = time.perf_counter()
        loaded = artifact.load(changed(made, precision=precision, batch_size=batch), place.device)
        load_s = time.perf_counter() - clock
        images = pictures(model, place, batch)
        if place.on_gpu:
            torch.cuda.reset_peak_memory_stats()
        captured = Captured(loaded.score, tuple(images.shape), place.device)
        with torch.inference_mode():
            plain, graph = (_rate(place, call, images) for call in (loaded.score, captured))
        peak = torch.cuda.max_memory_allocated() if place.on_gpu else None
        del captured  # the scorer has a graph of its own
        scorer = Scorer(loaded, place.device, threads=2)
        pixels = np.tile(images.cpu().numpy(), (6, 1, 1, 1))
        counted = operations.count(lambda loaded=loaded, images=images: loaded.score(images))
        yield {
            "precision": precision,
            "batch": batch,
            "load_s": round(load_s, 2),
            "plain_per_s": plain,
            "graph_per_s": graph,
            "in_memory_per_s": _in_memory(place, scorer, pixels),
            "gflop_per_image": {kind: round(flops / batch / 1e9, 2) for kind, flops in counted.flops.items()},
            "gb_per_image": round(counted.bytes / batch / 1e9, 3),
            "peak_gib": None if peak is None else round(peak / 2**30, 2),
        }
        del scorer, loaded, images
        if place.on_gpu:
            torch.cuda.empty_cache()


def compiled(model: Model, place: Place, _: int) -> Iterator[dict[str, Any]]:
    """The same beside CUDA graphs: TorchInductor's kernels, inside a graph of ours."""
    precision, batch = model.measured[1]
    loaded = artifact.load(changed(opened(model, place), precision=precision, batch_size=batch), place.device)
    computed = torch.compile(loaded.score)
    with torch.inference_mode():
        images = pictures(model, place, batch)  # in here, or another kind of tensor makes Captured compile it once more
        clock = time.perf_counter()
        first = computed(images)
        compile_s = time.perf_counter() - clock
        eager = loaded.score(images)
        graph = _rate(place, Captured(computed, tuple(images.shape), place.device), images)
    yield {
        "precision": precision,
        "batch": batch,
        "compile_s": round(compile_s, 1),
        "compiled_graph_per_s": graph,
        "equal_bits": all(torch.equal(a, b) for a, b in zip(first, eager, strict=True)),
    }


def _rate(place: Place, call: Callable[[torch.Tensor], object], images: torch.Tensor) -> float:
    """Images a second on the device; the first call is not counted."""
    call(images)
    wait = torch.cuda.synchronize if place.on_gpu else (lambda: None)
    wait()
    calls, clock = 0, time.perf_counter()
    while time.perf_counter() - clock < SECONDS[place.device]:
        for _ in range(4):
            call(images)
        wait()
        calls += 4
    return round(calls * len(images) / (time.perf_counter() - clock), 1)


def _in_memory(place: Place, scorer: Scorer, pixels: np.ndarray) -> float:
    """Images a second from pixels in this process's memory to results in it."""
    scorer(pixels)
    images, clock = 0, time.perf_counter()
    while time.perf_counter() - clock < SECONDS[place.device]:
        scorer(pixels)
        images += len(pixels)
    return round(images / (time.perf_counter() - clock), 1)
