"""Would several detectors together do better? Image AUROC of the mean of their scores, from the runs that are there.

    PYTHONPATH=. python docs/benchmarks/accuracy/fusion.py [--seed N]

Scores are brought to one scale by the median and the spread of the good test images, which a product could not do: the figures
are above what a fusion reaches that is standardised on training images. Scores that are positive by nature are compared by
their logarithms. A line a split: every detector alone, then every set of two and more of those that have a run of it.
"""

import argparse
import itertools
import json
from pathlib import Path

import numpy as np

from models.metrics.ranking import auroc

RUNS = Path(__file__).resolve().parent / "runs"
POSITIVE = ("csflow", "differnet", "padim")
DETECTORS = (*POSITIVE, "fastflow", "cflow")
SPLITS = ("published", *(f"fold-{fold}" for fold in range(5)))


def standardised(detector: str, split: str, seed: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Scores (N,) in spreads from the median good image, and which images are defects, (N,) bool; None without such a run."""
    path = RUNS / detector / f"{split}-seed-{seed}.json"
    if not path.is_file():
        return None
    images = sorted(json.loads(path.read_text(encoding="utf-8"))["scores"])
    scores = np.array([score for _, score, _ in images])
    defects = np.array([not name.startswith("test/good") for name, _, _ in images])
    scores = np.log(scores) if detector in POSITIVE else scores
    low, middle, high = np.percentile(scores[~defects], (16, 50, 84))
    return (scores - middle) / (high - low), defects


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    seed = parser.parse_args().seed
    for split in SPLITS:
        found = {name: one for name in DETECTORS if (one := standardised(name, split, seed)) is not None}
        sets = [each for count in range(1, len(found) + 1) for each in itertools.combinations(found, count)]
        means = {each: np.mean([found[name][0] for name in each], 0) for each in sets}
        defects = next(iter(found.values()))[1]
        print(f"{split}: " + ", ".join(f"{'+'.join(each)} {100 * auroc(mean, defects):.1f}" for each, mean in means.items()))


if __name__ == "__main__":
    main()
