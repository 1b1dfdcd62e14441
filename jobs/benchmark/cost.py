"""Estimates how long a scoring run takes and what it costs, from the measured seconds of an image.

For N images on k nodes of c cores and g GPUs each, with an image's seconds of decoding, of the model, and of reading and
committing (other):

    seconds = once + N / (k * node rate) + N * finalize
    node rate with GPUs = min((c - g) / (decode + other), g / model)      a scorer on a GPU holds a core
    node rate without   = c / (decode + other + model)                    the same cores do everything

Decoding grows with the stored size of the images, so measure it at that size. More nodes shorten neither the start nor
finalize. Each node is assumed to be as fast beside others as alone: no term stands for the storage that all of them share.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from jobs.command.errors import CommandError


class CostError(CommandError, ValueError):
    """The estimated run cannot work on these nodes."""


@dataclass(frozen=True)
class Rates:
    """Seconds an image.

    decode_s, other_s: of one core; other is reading and committing.  model_s: of one GPU if on_gpu, else of one core.
    finalize_s: of the run, after the last image is committed.  once_s: seconds of the run, not of an image: the time until its
    first images are scored, and the part of finalize that does not grow with the images.
    """

    on_gpu: bool
    decode_s: float
    model_s: float
    other_s: float = 0.0
    finalize_s: float = 0.0
    once_s: float = 0.0


@dataclass(frozen=True)
class Node:
    """One machine. usd_per_h: None if no price is known."""

    cpus: int
    gpus: int = 0
    usd_per_h: float | None = None


@dataclass(frozen=True)
class Estimate:
    """usd: price of all nodes for the whole time; None without a price.  limit: the part that takes most of the time: start,
    decode (with reading and committing), model or finalize."""

    nodes: int
    seconds: float
    gpu_hours: float
    usd: float | None
    limit: str


def estimate(images: int, rates: Rates, node: Node, nodes: int = 1) -> Estimate:
    """Applies the formula above. Raises CostError if nodes lack a GPU, or have no core beside those that scorers hold."""
    beside_model = rates.decode_s + rates.other_s
    if rates.on_gpu:
        if node.gpus < 1 or node.cpus <= node.gpus:
            raise CostError(
                f"nodes must have a GPU and more cores than GPUs for rates measured on a GPU; got {node.cpus} cores and "
                f"{node.gpus} GPUs. Set prices.cpus_per_node and prices.gpus_per_node, or measure with --device cpu."
            )
        by_stage = {"decode": beside_model / (node.cpus - node.gpus), "model": rates.model_s / node.gpus}
        scoring_s = max(by_stage.values()) * images / nodes
    else:
        by_stage = {"decode": beside_model / node.cpus, "model": rates.model_s / node.cpus}
        scoring_s = sum(by_stage.values()) * images / nodes
    slower = max(by_stage, key=lambda stage: by_stage[stage])
    parts = {"start": rates.once_s, slower: scoring_s, "finalize": rates.finalize_s * images}
    seconds = sum(parts.values())
    hours = seconds / 3600 * nodes
    return Estimate(
        nodes,
        seconds,
        gpu_hours=hours * node.gpus if rates.on_gpu else 0.0,
        usd=None if node.usd_per_h is None else hours * node.usd_per_h,
        limit=max(parts, key=lambda part: parts[part]),
    )


def line(points: Sequence[tuple[int, float]]) -> tuple[float, float]:
    """Fits (seconds once, seconds an image) to the (images, seconds) of runs by least squares; neither is below 0.

    If all runs have the same number of images, all seconds count as images', which is too much for a longer run.
    """
    count = len(points)
    x, y = sum(images for images, _ in points) / count, sum(seconds for _, seconds in points) / count
    spread = sum((images - x) ** 2 for images, _ in points)
    slope = sum((images - x) * (seconds - y) for images, seconds in points) / spread if spread else y / x
    if slope < 0:
        return y, 0.0
    if slope * x > y:
        return 0.0, sum(images * seconds for images, seconds in points) / sum(images * images for images, _ in points)
    return y - slope * x, slope


def doublings(most: int) -> list[int]:
    """1, 2, 4, ... and `most` itself."""
    return [1 << i for i in range((most - 1).bit_length())] + [most]
