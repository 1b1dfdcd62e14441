"""Made-up rows of images and a calibration that judges them."""

import numpy as np
import pyarrow as pa

from models.calibration.build import Belongs, Scored, calibrate, select
from models.calibration.calibration import Calibration, Grid, Keys, Mode
from models.verdicts.pieces import Images
from models.verdicts.rates import rate_of
from pipeline.verdicts.judge import Judge
from pipeline.verdicts.rule import Rule

PATTERN = "{line}/{lot}/{serial}_{camera}.png"
DIGEST = "ab" * 32
DEFAULTS = {
    "lot": "L1",
    "date": "2026-01-01",
    "score": 0.0,
    "device": "cpu-float32",
    "scoring_version": 5,
    "grid": "32 x 32",
    "line": "A",
    "serial": "1",
    "camera": "top",
    "run_id": "tile-000002",
    "uri": "file:///in/a.png",
    "member": None,
}
TYPES = {"score": pa.float32(), "scoring_version": pa.int32()}


def rows(*given: dict) -> pa.Table:
    """Rows of images, each with DEFAULTS for what it does not say."""
    columns = {}
    for name, default in DEFAULTS.items():
        columns[name] = pa.array([row.get(name, default) for row in given], TYPES.get(name, pa.string()))
    return pa.table(columns)


def good_pieces(rng: np.random.Generator, count: int, views: tuple[str, ...], lines: tuple[str, ...], salt: int = 0) -> Scored:
    """Pieces of ten lots, one image of each view; scores are normal around 0.

    lines: of the pieces in turn; none for calibrations without such a key.  salt: other images get another.
    """
    piece = np.repeat(np.arange(count), len(views))
    score = (rng.normal(size=count)[piece] + 0.1 * rng.normal(size=len(piece))).astype(np.float32)
    return Scored(
        Images(np.array([f"{at:05}" for at in piece]), np.tile(views, count), score, np.ones(len(piece), bool)),
        np.array([f"lot {at % 10}" for at in piece]),
        [(lines[at % len(lines)],) if lines else () for at in piece.tolist()],
        [f"file:///good/{at}.png" for at in range(len(piece))],
        [None] * len(piece),
        [f"{at + (count << 20) + (salt << 40):032x}" for at in range(len(piece))],
    )


def made(
    pieces: int = 60, views: tuple[str, ...] = ("top",), keys: Keys | None = None, seed: int = 0, resize: str = "tile"
) -> Calibration:
    """Pieces of ten lots on the line A, one image of each view; scores are normal."""
    rng = np.random.default_rng(seed)
    keys = keys or Keys(PATTERN, ("lot", "serial"), "camera", "lot", ("line",))
    views = views if keys.view else ("",)
    lines = ("A",) if keys.by else ()
    good, chosen = (good_pieces(rng, count, views, lines) for count in (pieces, 40))
    belongs = Belongs(DIGEST, Mode("cpu-float32", 16, 5), Grid(256, 256, resize, ((32, 32),)), keys)
    return calibrate(good, select(chosen, good, keys), belongs, [rate_of("0.05")])


def judge(calibration: Calibration | None, **rule: object) -> Judge:
    """The judge of a rule, by default at a rate of 5 %."""
    return Judge(DIGEST, Rule(calibration=None if calibration is None else "c" * 64, **rule), calibration)
