"""What a head costs a flow: images a second of one thread, with and without, in turns in one process.

    PYTHONPATH=. python docs/benchmarks/throughput/heads.py [--batches N]

Untrained detectors with default settings at 256 x 256 pixels in bf16 score the same 16 random images; the time is the
processor's, so that other work on the machine counts little. Compare the figures of one run only.
Needs FLOWSCORE_ASSETS.
"""

import argparse
import time
from statistics import median

import torch

from models import registry
from models.config import ArtifactConfig
from models.detector import Detector

FLOWS = ("csflow", "fastflow", "differnet")
BATCH = 16


def build(flow: str, with_head: bool) -> Detector:
    """In the state in which it scores, though it was not fitted."""
    hyperparameters = {} if with_head else {"head": None}
    detector = registry.build(ArtifactConfig(name="tile", detector=flow, precision="bf16", hyperparameters=hyperparameters))
    detector.freeze()
    detector.fitted = True
    return detector


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=7, help="of 16 images each, for a median")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    images = torch.randint(0, 256, (BATCH, 256, 256, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    print("flow       without   with  ratio")
    for flow in FLOWS:
        detectors = {with_head: build(flow, with_head) for with_head in (False, True)}
        spent: dict[bool, list[float]] = {False: [], True: []}
        for turn in range(asked.batches + 1):
            for with_head, detector in detectors.items():
                start = time.process_time()
                detector.score(images)
                if turn:  # the first warms up
                    spent[with_head].append(time.process_time() - start)
        alone, headed = (BATCH / median(spent[with_head]) for with_head in (False, True))
        print(f"{flow:<10} {alone:7.1f} {headed:6.1f}  {headed / alone:5.2f}", flush=True)


if __name__ == "__main__":
    main()
