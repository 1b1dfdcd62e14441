"""`flowscore score` beside plain Ray Data (read_images.py) on the same loose images with the same model.

    PYTHONPATH=. python docs/benchmarks/throughput/ray_data/compare.py FOLDER [--images 1920] [--precision bf16]

Demo pictures of 288 x 288 pixels as JPEG files in FOLDER, an untrained CS-Flow at 256 pixels. Ray Data is tried with one actor
and with two, each on so many images and on few. Prints one JSON document: for each the images a second from start to exit and
after the start (the run of few subtracted), the product's ratios to the better of the two, and the rank correlation
of both scores. Takes about 6 minutes of two cores.
"""

import argparse
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pyarrow.parquet as pq
from scipy.stats import spearmanr

from jobs.benchmark.cases import DEFAULT, cases
from jobs.benchmark.inputs import untrained
from jobs.drawn.archive import make, orders
from pipeline.tables.query import open_tables

DISTINCT, FEW = 480, 48
ACTORS = (1, 2)


def fill(folder: Path, images: int) -> None:
    """At least so many files in `images`, the same pictures again and again, and FEW of them in `few`."""
    for name in ("pictures", "images", "few"):
        (folder / name).mkdir(parents=True)
    for number, shard in enumerate(make(orders(min(images, DISTINCT), archive=False, seed=0))):
        with tarfile.open(fileobj=io.BytesIO(shard.tar)) as tar:
            for member in tar:
                content = tar.extractfile(member)
                assert content is not None
                (folder / "pictures" / f"{number:02d}-{member.name}").write_bytes(content.read())
    pictures = sorted((folder / "pictures").iterdir())
    for i in range(images):
        picture = pictures[i % len(pictures)]
        os.link(picture, folder / "images" / f"{i:06d}-{picture.name}")
        if i < FEW:
            os.link(picture, folder / "few" / f"{i:06d}-{picture.name}")


def seconds(*command: object) -> float:
    clock = time.perf_counter()
    subprocess.run([sys.executable, *map(str, command)], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - clock


def rates(images: int, whole_s: float, few_s: float) -> dict[str, float]:
    return {"start_to_exit_per_s": images / whole_s, "after_the_start_per_s": (images - FEW) / (whole_s - few_s)}


def plain(folder: Path, images: int, actors: int) -> dict[str, float]:
    script, model = Path(__file__).with_name("read_images.py"), folder / "model"
    spent = {
        name: seconds(script, folder / name, model, folder / f"plain-{name}-{actors}", actors) for name in ("few", "images")
    }
    return {"actors": actors} | rates(images, spent["images"], spent["few"])


def product(folder: Path, images: int) -> dict[str, float]:
    spent = {
        name: seconds(
            *("-m", "jobs.cli", "score", "--model", folder / "model"),
            *("--input", folder / name, "--output", folder / f"tables-{name}"),
        )
        for name in ("few", "images")
    }
    return rates(images, spent["images"], spent["few"])


def rank_correlation(folder: Path) -> float:
    rows = open_tables(str(folder / "tables-images")).connection.execute("select uri, score from scores").fetchall()
    ours = {uri.rpartition("/")[2]: score for uri, score in rows}
    found = pq.read_table(folder / f"plain-images-{ACTORS[0]}", columns=["path", "score"]).to_pylist()
    theirs = {row["path"].rpartition("/")[2]: row["score"] for row in found}
    assert set(ours) == set(theirs)
    return float(spearmanr([ours[name] for name in theirs], list(theirs.values())).statistic)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=1920)
    parser.add_argument("--precision", default="bf16", choices=["float32", "bf16"])
    asked = parser.parse_args()
    folder = asked.folder.absolute()
    shutil.rmtree(folder, ignore_errors=True)
    fill(folder, asked.images)
    case = cases({})[DEFAULT].model_copy(update={"precision": asked.precision})
    untrained(folder / "model", case.config("beside-ray-data"))
    theirs = [plain(folder, asked.images, actors) for actors in ACTORS]
    ours = product(folder, asked.images)
    ratios = {f"{name}_ratio": ours[name] / max(one[name] for one in theirs) for name in ours}
    figures = {"images": asked.images, "ray_data": theirs, "flowscore": ours, **ratios}
    print(json.dumps(figures | {"rank_correlation": rank_correlation(folder)}, indent=1))


if __name__ == "__main__":
    main()
