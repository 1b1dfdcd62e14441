"""Images a second of one thread, of every detector with its default settings, and of flows without the head that these have.

    PYTHONPATH=. python docs/benchmarks/throughput/detectors.py [--batches N]

Untrained detectors at 256 x 256 pixels in bf16 score the same 16 random images, in turns in one process; the time is the
processor's, so that other work on the machine counts little. Compare the figures of one run only. Patch SVDD searches a bank of
random vectors, of the default size. Needs FLOWSCORE_ASSETS.
"""

import argparse
import time
from statistics import median
from typing import Any

import torch

from models import registry
from models.config import ArtifactConfig
from models.detector import Detector

DETECTORS = ("csflow", "fastflow", "differnet", "cflow", "padim", "patchsvdd")
HEADED = ("csflow", "fastflow", "differnet")
BATCH = 16


def build(name: str, hyperparameters: dict[str, Any]) -> Detector:
    """In the state in which it scores, though it was not fitted."""
    backbone = {"backbone": None} if name == "patchsvdd" else {}
    config = ArtifactConfig(name="tile", detector=name, precision="bf16", hyperparameters=hyperparameters, **backbone)
    detector = registry.build(config)
    if name == "patchsvdd":
        detector.large_bank.normal_()
    detector.freeze()
    detector.fitted = True
    return detector


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=7, help="of 16 images each, for a median")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    images = torch.randint(0, 256, (BATCH, 256, 256, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    built = {(name, "with its defaults"): build(name, {}) for name in DETECTORS}
    built |= {(name, "without a head"): build(name, {"head": None}) for name in HEADED}
    spent: dict[tuple[str, str], list[float]] = {which: [] for which in built}
    for turn in range(asked.batches + 1):
        for which, detector in built.items():
            start = time.process_time()
            detector.score(images)
            if turn:  # the first warms up
                spent[which].append(time.process_time() - start)
    print("| detector | images/s | without a head |\n| ---|---|--- |")
    speed = {which: f"{BATCH / median(seconds):.1f}" for which, seconds in spent.items()}
    for name in DETECTORS:
        print(f"| {name} | {speed[name, 'with its defaults']} | {speed.get((name, 'without a head'), '-')} |")


if __name__ == "__main__":
    main()
