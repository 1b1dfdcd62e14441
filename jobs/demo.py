"""Show everything on made-up inspection images: training, calibration, scoring, tables, a report. Needs no network."""

import csv
import logging
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer
from pydantic import BaseModel, ConfigDict, Field

from jobs.command.entry import run
from jobs.command.errors import UsageError
from jobs.command.flags import Flag
from jobs.command.places import check_folder
from jobs.command.progress import duration
from jobs.drawn.archive import Shard, make, orders, write_truth

BUCKET = "flowscore-demo"
PATTERN = "{line}/{date}/{lot}/{name}"
CONFIGS = Path(os.path.relpath(Path(__file__).parent / "configs"))
PRETRAINED = "assets/weights/mobilenetv1_100_imagenet.safetensors"
WORST = (
    "select line, lot, member, round(score, 2) as score, rank, n_calibration, verdict from scores "
    "order by scores.rank, scores.score desc limit 10"
)
LOTS = "select lot, state, flagged, pieces, reason from lots order by state, lot"


class DemoSettings(BaseModel):
    """Settings of `flowscore demo`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    directory: Flag[Path] = Field(Path("demo-output"), description="where model, tables, report.html and worst.png go")
    images: Flag[int] = Field(300, ge=100, description="pictures in the archive, and about as many good ones")
    seed: Flag[int] = Field(0, ge=0, description="the same seed draws the same pictures")


def main(settings: DemoSettings) -> None:
    started = time.monotonic()
    directory, images, seed = settings.directory, settings.images, settings.seed
    check_folder("--directory", directory)
    directory.mkdir(parents=True, exist_ok=True)
    for name in ("model", "tables"):
        shutil.rmtree(directory / name, ignore_errors=True)
    with s3_server() as endpoint:
        say(f"The demo runs its own S3 server at {endpoint}.")
        fill_bucket(directory, images, seed)
        model, tables = directory / "model", directory / "tables"
        flowscore(
            "train", "--config", str(training_config()), "--input", f"s3://{BUCKET}/good", "--model-out", str(model),
            "--name", "demo", "--key-pattern", PATTERN, "--seed", str(seed),
        )  # fmt: skip
        flowscore("calibrate", "--model", str(model), "--input", f"s3://{BUCKET}/good", "--key-pattern", PATTERN)
        flowscore(
            "score", "--model", str(model), "--input", f"s3://{BUCKET}/archive", "--output", str(tables),
            "--key-pattern", PATTERN,
        )  # fmt: skip
        flowscore("query", "--output", str(tables), WORST)
        flowscore("query", "--output", str(tables), LOTS)
        flowscore("query", "--output", str(tables), "select error, member, message from errors order by member")
        show_accuracy(tables, directory / "truth.csv")
        page, sheet = directory / "report.html", directory / "worst.png"
        flowscore("report", "--output", str(tables), "--html", str(page), "--png", str(sheet))
    say(f"\nDone in {duration(time.monotonic() - started)}. Open {page} and {sheet}; query the tables with")
    say(f'flowscore query --output {tables} "select ..."')


@contextmanager
def s3_server() -> Iterator[str]:
    """Runs moto's S3 server in a thread of this process, and sets the environment that points clients at it.

    Yields:
        the server's endpoint.
    """
    try:
        import boto3
        from moto.server import ThreadedMotoServer
    except ImportError as error:
        raise UsageError(
            "flowscore demo", "installed with its extra", error.name, "pip install 'flowscore[demo]', or `make demo`."
        ) from error
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # one line a request otherwise
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    settings = {"AWS_ENDPOINT_URL": endpoint, "AWS_ACCESS_KEY_ID": "demo", "AWS_SECRET_ACCESS_KEY": "demo"}
    before = {name: os.environ.get(name) for name in (*settings, "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_SESSION_TOKEN")}
    for name in before:
        os.environ.pop(name, None)
    os.environ.update(settings, AWS_DEFAULT_REGION="us-east-1")
    try:
        boto3.client("s3").create_bucket(Bucket=BUCKET)
        yield endpoint
    finally:
        server.stop()
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def fill_bucket(directory: Path, images: int, seed: int) -> None:
    """Draw the shards and put them into the bucket; write the truth about them to the directory."""
    from pipeline.storage.store import open_store

    started = time.monotonic()
    for prefix, archive in (("good", False), ("archive", True)):
        store = open_store(f"s3://{BUCKET}/{prefix}")
        shards: list[Shard] = []
        for shard in make(orders(images, archive, seed)):
            store.put_new(shard.key, shard.tar)
            shards.append(shard)
        if archive:
            write_truth(shards, directory / "truth.csv")
        count = sum(len(shard.truth) for shard in shards)
        size = sum(len(shard.tar) for shard in shards) / 1e6
        say(f"s3://{BUCKET}/{prefix}: {count} pictures in {len(shards)} tar shards, {size:.1f} MB")
    say(f"Drawn in {duration(time.monotonic() - started)}. Labels are in {directory / 'truth.csv'}, not in the shards.")


def training_config() -> Path:
    """The settings for the best backbone weights that are available without a network."""
    assets = os.environ.get("FLOWSCORE_ASSETS")
    if assets and (Path(assets) / PRETRAINED).is_file():
        return CONFIGS / "demo_pretrained.yaml"
    say(
        "\nNOTE: there are no pretrained backbone weights here (FLOWSCORE_ASSETS names no folder with them), so the demo uses\n"
        "random ones. They suit its simple textures. For a product, let `flowscore train` download some: --weights hub."
    )
    return CONFIGS / "demo_random.yaml"


def flowscore(verb: str, *arguments: str) -> None:
    """Show a command as a user would type it, and run it.

    Raises:
        typer.Exit: with the command's exit code, if it failed.
    """
    say(f"\n$ flowscore {verb} {shlex.join(arguments)}")
    ended = subprocess.run([sys.executable, "-m", f"jobs.{verb}", *arguments], check=False)
    if ended.returncode:
        raise typer.Exit(ended.returncode)


def show_accuracy(tables: Path, truth: Path) -> None:
    """Print how well the scores rank the defects, and what was flagged and held; only the demo knows the truth."""
    from sklearn.metrics import roc_auc_score

    from pipeline.tables.query import open_tables

    with truth.open() as rows:
        defects = {(row["shard"], row["member"]): row["defect"] for row in csv.DictReader(rows)}
    connection = open_tables(str(tables)).connection
    query = "select line, split_part(uri, '/archive/', 2) as shard, member, score, verdict = 'flagged' from scores"
    scored = connection.sql(query).fetchall()
    known = [(line, defects[shard, member] != "good", score) for line, shard, member, score, _ in scored]
    say("\nAUROC against truth.csv (1 is a perfect ranking, 0.5 is chance):")
    for line in sorted({line for line, _, _ in known}):
        of_line = [(bad, score) for each, bad, score in known if each == line]
        bad, score = zip(*of_line, strict=True)
        say(f"  {line:<9} {roc_auc_score(bad, score):.3f}   {sum(bad)} defective of {len(bad)} pictures")
    defective = [bad for _, bad, _ in known]
    say(f"  {'all':<9} {roc_auc_score(defective, [score for _, _, score in known]):.3f}")
    flagged = [each for *_, each in scored]
    found = sum(each for each, bad in zip(flagged, defective, strict=True) if bad)
    lots, held = connection.sql("select count(*), count(*) filter (state = 'hold') from lots").fetchall()[0]
    say(
        f"Flagged: {found} of {sum(defective)} defective pictures, and {sum(flagged) - found} of "
        f"{len(defective) - sum(defective)} good ones. "
        f"On hold: {held} of {lots} lots; all have defective pictures, and one has many."
    )


def say(text: str) -> None:
    """Print at once, so that lines stay in order with those of the commands."""
    print(text, flush=True)


if __name__ == "__main__":
    run(main)
