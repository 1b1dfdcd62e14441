"""Made-up calibrations for the scores that the stand-in makes: good pieces score as the archive's good images do."""

import functools
import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from models.calibration import files
from models.calibration.build import Belongs, Scored, calibrate, select
from models.calibration.calibration import Calibration, Grid, Keys, Mode
from models.verdicts.pieces import Images
from models.verdicts.rates import rate_of
from pipeline.state.scoring_config import SCORING_VERSION

VIEWS = ("side", "top")
LOTS = 8
BY_IMAGE = Keys(lot="lot")
BY_IMAGE_AND_LINE = Keys(lot="lot", by=("line",))
BY_PIECE = Keys(None, ("lot", "serial"), "camera", "lot")
BY_PIECE_AND_LINE = Keys(None, ("lot", "line", "serial"), "camera", None, ("line",))
ACROSS_LINES = BY_PIECE._replace(by=("line",))
KINDS = (BY_IMAGE, BY_IMAGE_AND_LINE, BY_PIECE, BY_PIECE, BY_PIECE_AND_LINE, ACROSS_LINES)
SIZES = (12, 40, 70, 70)
SEEDS = 2


KNOWN: dict[str, Calibration] = {}
"""Every one that was made, by its digest."""


class Made(NamedTuple):
    """digest: of the calibration's files."""

    digest: str
    files: dict[str, bytes]

    def folder(self, within: Path) -> Path:
        """A model's folder that has it."""
        folder = within / f"calibration-{self.digest[:16]}"
        if not folder.exists():
            folder.mkdir()
            for name, content in self.files.items():
                (folder / name).write_bytes(content)
        return folder


@functools.cache
def made(kind: Keys, pieces: int, seed: int, model_digest: str) -> Made:
    """A calibration of good pieces of the lines l1 and l2, for which some rates are too small."""
    images, chosen = _good(kind, pieces, seed), _good(kind, 20, seed + 100)
    belongs = Belongs(model_digest, Mode("cpu", 8, SCORING_VERSION), Grid(8, 8, "squash", ((2, 2),)), kind)
    found = calibrate(images, select(chosen, images, kind), belongs, [rate_of("0.2")])
    content = files.encoded(found)
    digest = hashlib.sha256(b"".join(content[name] for name in sorted(content))).hexdigest()
    KNOWN[digest] = files.decoded(content)
    return Made(digest, content)


def _good(kind: Keys, pieces: int, seed: int) -> Scored:
    rng = np.random.default_rng(seed)
    views = VIEWS if kind.view else ("",)
    piece = np.repeat(np.arange(pieces), len(views))
    score = rng.random(len(piece)).round(2).astype(np.float32)  # some are equal
    lines = [("l2",) if at % 3 == 2 else ("l1",) for at in piece.tolist()] if kind.by else [()] * len(piece)
    return Scored(
        Images(np.array([f"{at:04}" for at in piece]), np.tile(views, pieces), score, np.ones(len(piece), bool)),
        np.array([f"lot {at % LOTS}" if kind.lot else "" for at in piece]),
        lines,
        [f"file:///good/{at}.png" for at in range(len(piece))],
        [None] * len(piece),
        [f"{at + (seed << 20):032x}" for at in range(len(piece))],
    )
