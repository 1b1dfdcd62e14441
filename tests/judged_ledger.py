"""Ledgers whose model is calibrated, without a model: slices of made-up scores, and what their verdicts must be."""

from collections import defaultdict
from pathlib import Path

import fake_run
import numpy as np
from fake_run import DIGEST, MODEL
from judged_images import good_pieces

from models.artifact import CALIBRATION_FILES
from models.calibration import files
from models.calibration.build import Belongs, calibrate, select
from models.calibration.calibration import Calibration, Grid, Keys, Mode
from models.verdicts.rates import rate_of
from pipeline.input.config import SourceConfig
from pipeline.state.judges import Ruling, decide
from pipeline.state.ledger import Ledger
from pipeline.state.scoring_config import SCORING_VERSION
from pipeline.tables.delta import open_table

PATTERN = "{line}/{lot}/{serial}_{camera}.png"
SOURCE = SourceConfig(input_uri=fake_run.INPUT, key_pattern=PATTERN)
VIEWS = ("side", "top")
BY_PIECE = Keys(PATTERN, ("lot", "serial"), "camera", "lot", ("line",))
BY_IMAGE = Keys(PATTERN, lot="lot")


def calibration(
    keys: Keys = BY_PIECE, pieces: int = 100, seed: int = 0, digest: str = DIGEST, lines: tuple[str, ...] = ("7",)
) -> Calibration:
    """Good pieces of ten lots of these lines; scores are normal around 0."""
    rng = np.random.default_rng(seed)
    views = VIEWS if keys.view else ("",)
    of_lines = lines if keys.by else ()
    images, chosen = (good_pieces(rng, count, views, of_lines, seed) for count in (pieces, 40))
    grid = Grid(48, 64, "squash", ((6, 8),))
    belongs = Belongs(digest, Mode("cpu-float32", 8, SCORING_VERSION), grid, keys)
    return calibrate(images, select(chosen, images, keys), belongs, [rate_of("0.05")])


def put_files(folder: Path, made: Calibration) -> Path:
    """Write the calibration's files into a folder."""
    folder.mkdir(exist_ok=True)
    for name, content in files.encoded(made).items():
        assert name in CALIBRATION_FILES
        (folder / name).write_bytes(content)
    return folder


def put_rule(output: Path, made: Calibration, digest: str = "c" * 64, model: str = MODEL, **settings) -> bool:
    """Decide the rule of a model; the ledger must be there. Returns whether it is a new one."""
    ledger = Ledger(str(output), model)
    folder = put_files(output.parent / f"calibration-{digest[:4]}", made)
    return decide(ledger, Ruling(made.model_digest, digest, folder, settings, "a test")) is not None


def image(folder: str, serial: str, score: float | None, camera: str = "top", line: str = "7", **columns) -> dict:
    """A commit row; score None for one that could not be read. columns: others than the path says."""
    name = f"{line}/{folder}/{serial}_{camera}.png"
    keys = {"lot": folder, "keys": [("line", line), ("serial", serial), ("camera", camera)], **columns}
    return fake_run.failed(name, **keys) if score is None else fake_run.scored(name, score, **keys)


def publish(output: Path, content: list[tuple[str, list[dict]]], **options) -> int:
    return fake_run.published(output, content, source=SOURCE, **options)


def rows(output: Path, table: str) -> list[dict]:
    """The rows of a table's newest version."""
    opened = open_table(str(output), table)
    return [] if opened is None else opened.to_pyarrow_table().to_pylist()


def verdicts(output: Path) -> dict[str, tuple[str, str | None]]:
    """(verdict, reason) by the end of the image's path."""
    return {row["uri"].removeprefix(f"{fake_run.INPUT}/"): (row["verdict"], row["reason"]) for row in rows(output, "scores")}


def lots(output: Path) -> dict[tuple[str, str], list[dict]]:
    """The revisions of each lot by (date, lot), from the first."""
    found = defaultdict(list)
    for row in sorted(rows(output, "lots"), key=lambda row: row["revision"]):
        found[row["date"], row["lot"]].append(row)
    return dict(found)


def files_of(output: Path, table: str) -> set[str]:
    opened = open_table(str(output), table)
    return set() if opened is None else set(opened.file_uris())
