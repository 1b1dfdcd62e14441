"""The `flowscore` command with a memory of features: an image's features are computed once for all runs that share FOLDER.

    PYTHONPATH=. python docs/benchmarks/accuracy/remembered.py FOLDER VERB ...

For `protocol.py --remember`: the runs of one detector differ in seed and split, hardly in images, and DifferNet passes eight
copies of every image through the backbone each time. For detectors whose features come from a frozen backbone only, and one
file of weights a FOLDER: the weights go by another name after training. In bf16 features depend on the size of their
batch, by up to 0.3 % of the largest (16 images and 5 of them), so a run that shares them is not the same to the bit: fold 0,
seed 0 has 85.7 with and 85.5 without.
"""

import hashlib
import os
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from jobs import cli
from models.detector import Detector
from models.maps.grids import Maps

DECIDES_FEATURES = {"detector", "backbone", "input", "precision", "hyperparameters"}


def remembering(compute: Callable[[Detector, Tensor], Maps], folder: Path) -> Callable[[Detector, Tensor], Maps]:
    """Detector.extract that looks into the folder first; one file an image and configuration."""

    @torch.no_grad()
    def extract(self: Detector, images: Tensor) -> Maps:
        config = self.config.model_dump_json(include=DECIDES_FEATURES, exclude={"backbone": {"weights", "seed"}})
        digests = [hashlib.sha256(config.encode() + image.cpu().numpy().tobytes()).hexdigest() for image in images]
        paths = [folder / f"{digest}.pt" for digest in digests]
        missing = [position for position, path in enumerate(paths) if not path.is_file()]
        if missing:
            computed = compute(self, images[missing])
            for position, path in enumerate(paths[index] for index in missing):
                own = path.with_suffix(f".{os.getpid()}")  # another run may be at the same image
                torch.save([x[position].clone() for x in computed], own)
                own.rename(path)
        found = [torch.load(path, map_location=images.device) for path in paths]
        return [torch.stack(level) for level in zip(*found, strict=True)]

    return extract


if __name__ == "__main__":
    remembered = Path(sys.argv.pop(1))
    remembered.mkdir(parents=True, exist_ok=True)
    Detector.extract = remembering(Detector.extract, remembered)
    cli.main()
