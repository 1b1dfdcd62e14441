"""What verdicts cost: of a publication, of a rule that is decided anew, and of a late image; from made-up commits.

    PYTHONPATH=. python docs/benchmarks/verdicts/publication.py FOLDER [--images 100000] [--map-side 32] [--rejudged 10000000]

Makes a month of images in lots of 500 and publishes it by one process: uncalibrated, with an image a piece, and with two
images a piece, in turn, `--repeats` times each; prints the seconds of processor of each and their ratio. Then a month of
`--rejudged` images without maps is published uncalibrated, and judged by a first rule, another rate and another calibration,
with as many processes as there are cores; reading a commit would end it. Then one image comes late.
"""

import argparse
import json
import resource
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

LEDGER_BENCH = Path(__file__).parents[1] / "ledger"
sys.path.insert(0, str(LEDGER_BENCH))

import made_up_month  # noqa: E402
from made_up_month import DIGEST, MODEL, Month, create, seal  # noqa: E402

from models.artifact import CALIBRATION_FILES  # noqa: E402
from models.calibration import files  # noqa: E402
from models.calibration.build import Belongs, Scored, calibrate, select  # noqa: E402
from models.calibration.calibration import Grid, Keys, Mode  # noqa: E402
from models.verdicts.pieces import Images  # noqa: E402
from models.verdicts.rates import rate_of  # noqa: E402
from pipeline.state.judges import Ruling, decide  # noqa: E402
from pipeline.state.ledger import Ledger  # noqa: E402
from pipeline.state.scoring_config import SCORING_VERSION  # noqa: E402
from pipeline.tables import seen_images, slice_rows  # noqa: E402
from pipeline.tables.held import HoldLimits  # noqa: E402
from pipeline.tables.publish_slice import publish_slice  # noqa: E402
from pipeline.tables.query import open_tables  # noqa: E402
from pipeline.tables.rejudge import rejudge  # noqa: E402

KEYS = {
    "image": Keys("{line}/{date}/{lot}/{serial}.jpg", (), None, "lot", ()),
    "piece": Keys("{line}/{date}/{lot}/{serial}.jpg", ("serial",), None, "lot", ()),
}
PIECES = 1000


def calibration_in(folder: Path, keys: Keys, side: int, seed: int = 0) -> Path:
    """The files of a calibration of 1,000 pieces of 20 lots, whose scores are drawn like those of the month."""
    rng = np.random.default_rng(seed)
    images = 2 if keys.piece else 1

    def scored(count: int) -> Scored:
        piece = np.repeat(np.arange(count), images)
        return Scored(
            Images(
                np.array([f"{at:05}" for at in piece]),
                np.full(len(piece), ""),
                rng.gamma(9, 0.2, len(piece)).astype(np.float32),
                np.ones(len(piece), bool),
            ),
            np.array([f"lot {at % 20}" for at in piece]),
            [()] * len(piece),
            [f"file:///good/{at}" for at in range(len(piece))],
            [None] * len(piece),
            [f"{at + (count << 20) + (seed << 50):032x}" for at in range(len(piece))],
        )

    good = scored(PIECES)
    belongs = Belongs(DIGEST, Mode("cuda-bf16", 16, SCORING_VERSION), Grid(256, 256, "squash", ((side, side),)), keys)
    made = calibrate(good, select(scored(200), good, keys), belongs, [rate_of("0.01")])
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.encoded(made).items():
        assert name in CALIBRATION_FILES
        (folder / name).write_bytes(content)
    return folder


def rows_with_serials(real: Callable[..., pa.Table], month: Month, numbers: np.ndarray, version: int) -> pa.Table:
    """Commit rows whose key `serial` is the same for two images that follow each other."""
    rows, count = real(month, numbers, version), len(numbers)
    serials = made_up_month.padded(numbers // 2, 10)
    made = pa.MapArray.from_arrays(np.arange(count + 1, dtype=np.int32), pa.array(["serial"] * count), serials)
    place = rows.column_names.index("keys")
    rows = rows.set_column(place, rows.schema.field(place), made.cast(rows.schema.field(place).type))
    if month.map_side:
        return rows
    for name in ("map_height", "map_width"):  # a month without maps still has their size
        place = rows.column_names.index(name)
        rows = rows.set_column(place, rows.schema.field(place), pa.array(np.full(count, 1, np.int16)))
    return rows


def month_in(folder: Path, images: int, side: int) -> tuple[Month, int]:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    month = Month(Ledger(str(folder), MODEL), images, min(1000, images), side)
    create(month.ledger)
    return month, seal(month, np.arange(images), 0)


def spent(call: Callable[[], Any]) -> tuple[Any, float, float]:
    """(result, seconds of processor of this process and its children, seconds) of a call."""

    def cpu_s() -> float:
        both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        return sum(used.ru_utime + used.ru_stime for used in both)

    began, at = cpu_s(), time.monotonic()
    result = call()
    return result, cpu_s() - began, time.monotonic() - at


def cost(folder: Path, images: int, side: int, repeats: int) -> None:
    """Publications of the same slice: uncalibrated, by image and by piece."""
    found: dict[str, list[float]] = {name: [] for name in ("none", *KEYS)}
    for at in range(repeats):
        for name in found:
            month, number = month_in(folder / f"{name}-{at}", images, side)
            if name != "none":
                model = calibration_in(folder / "calibration" / name, KEYS[name], max(side, 1))
                decide(month.ledger, Ruling(DIGEST, "c" * 64, model, {"rate": "0.01"}, "bench"))
                rejudge(month.ledger)
            found[name].append(spent(partial(publish_slice, month.ledger, number, HoldLimits()))[1])
            shutil.rmtree(folder / f"{name}-{at}")
            print(json.dumps({"run": at, "judged_by": name, "cpu_s": round(found[name][-1], 2)}), flush=True)
    middle = {name: statistics.median(times) for name, times in found.items()}
    ratios = {f"{name}_to_none": round(middle[name] / middle["none"], 3) for name in KEYS}
    print(json.dumps({"images": images, "map_side": side, **ratios}), flush=True)


def pooled(pool: ProcessPoolExecutor, function: Callable[[Any], Any], jobs: Iterable[Any]) -> Iterator[Any]:
    return pool.map(function, jobs)


def rejudged(folder: Path, images: int) -> None:
    """A first rule, another rate, another calibration, and a late image."""
    month, number = month_in(folder / "rejudged", images, 0)
    ledger, place = month.ledger, folder / "calibration"
    with ProcessPoolExecutor() as pool:
        map_fn = partial(pooled, pool)
        publish_slice(ledger, number, HoldLimits(), map_fn)
    read = slice_rows.read_commits
    slice_rows.read_commits = seen_images.read_commits = _refused  # from here on no commit may be read
    changes = (
        ("first rule", "c" * 64, 0, "0.01"),
        ("another rate", "c" * 64, 0, "0.02"),
        ("another calibration", "e" * 64, 1, "0.02"),
    )
    for name, digest, seed, rate in changes:
        model = calibration_in(place / f"{seed}", KEYS["image"], 1, seed)
        decide(ledger, Ruling(DIGEST, digest, model, {"rate": rate}, "bench"))
        with ProcessPoolExecutor() as pool:
            done, cpu_s, seconds = spent(partial(rejudge, ledger, partial(pooled, pool)))
        peak = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3)
        told = {"rows": done.rows, "lots": done.lots, "s": round(seconds, 1), "driver_peak_mb": peak}
        print(json.dumps({"images": images, "change": name, **told}), flush=True)
    slice_rows.read_commits = seen_images.read_commits = read


def _refused(*_: object) -> None:
    raise AssertionError("a commit was read")


def late(folder: Path) -> None:
    """One image more of a lot in the middle of the month."""
    ledger = Ledger(str(folder / "rejudged"), MODEL)
    before = _newest(folder)
    month = Month(ledger, before[0], 1000, 0)
    number = seal(month, np.array([before[0] // 2]), 1)  # the same object with another content, of the same day and lot
    _, cpu_s, seconds = spent(partial(publish_slice, ledger, number, HoldLimits()))
    after = _newest(folder)
    told = {"late_image_s": round(seconds, 2), "cpu_s": round(cpu_s, 2), "new_lot_revisions": after[1] - before[1]}
    print(json.dumps(told), flush=True)


def _newest(folder: Path) -> tuple[int, int]:
    """Rows of scores and of lots."""
    tables = open_tables(str(folder / "rejudged"))
    ((rows, lots),) = tables.connection.sql("select (select count(*) from scores), (select count(*) from lots)").fetchall()
    return rows, lots


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--map-side", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--rejudged", type=int, default=10_000_000)
    asked = parser.parse_args()
    made_up_month.SOURCE = made_up_month.SOURCE.model_copy(update={"key_pattern": KEYS["image"].pattern})
    made_up_month.SCORING = made_up_month.SCORING.model_copy(update={"source": made_up_month.SOURCE})
    made_up_month.commit_rows = partial(rows_with_serials, made_up_month.commit_rows)
    if asked.images:
        cost(asked.folder, asked.images, asked.map_side, asked.repeats)
    if asked.rejudged:
        rejudged(asked.folder, asked.rejudged)
        late(asked.folder)


if __name__ == "__main__":
    main()
