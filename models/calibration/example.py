"""A made-up calibration, for the examples of this folder and for tests."""

from fractions import Fraction

import numpy as np

from models.calibration.build import Belongs, Scored, calibrate, select
from models.calibration.calibration import Calibration, Grid, Keys, Mode, Selection
from models.verdicts.pieces import Images


def scored(pieces: int, images: int = 1, seed: int = 0) -> Scored:
    """Images of pieces of ten lots on the lines A (nine of ten pieces) and B.

    >>> scored(pieces=20, images=2).images.piece[:3].tolist()
    ['00000', '00000', '00001']
    """
    rng = np.random.default_rng(seed)
    number = np.repeat(np.arange(pieces), images)
    score = (rng.normal(size=pieces)[number] + rng.normal(size=len(number))).astype(np.float32)
    names = [f"{seed}-{at}" for at in range(len(number))]
    return Scored(
        Images(np.array([f"{at:05}" for at in number]), np.full(len(number), ""), score, np.ones(len(number), bool)),
        np.array([f"lot {at % 10}" for at in number]),
        [("B",) if at % 10 == 9 else ("A",) for at in number.tolist()],
        [f"file:///good/{name}.png" for name in names],
        [None] * len(names),
        [f"{at + (seed << 20):032x}" for at in range(len(names))],
    )


def selection() -> Selection:
    """Of 40 pieces of one image.

    >>> selection().score.shape
    (40,)
    """
    return select(scored(pieces=40, seed=1), scored(pieces=40), Keys(lot="lot", by=("line",)))


def calibration(pieces: int, images: int = 1) -> Calibration:
    """Of pieces of ten lots, one calibration group of its own for line A.

    >>> calibration(pieces=60).groups[0].scores().shape
    (60,)
    """
    good, keys = scored(pieces, images), Keys("{line}/{lot}/{serial}.png", ("serial",), None, "lot", ("line",))
    belongs = Belongs("ab" * 32, Mode("cpu-float32", 16, 5), Grid(256, 256, "squash", ((32, 32),)), keys)
    return calibrate(good, select(scored(pieces=40, images=images, seed=1), good, keys), belongs, [Fraction("0.1")])
