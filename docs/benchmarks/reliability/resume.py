"""What it costs to go on with a run that was killed when 99 % of it was done, and how much state it keeps.

    python docs/benchmarks/reliability/resume.py FOLDER [--images 20000] [--source tar|files] [--done 0.99] [--model DIR]
        [--json FILE]

Puts an archive of small drawn images on an S3 server (Ceph's gateway, started here as for the tests; needs root), scores it
once to know how many commits that makes, then a second time into another output, kills that command when the given share of
them is written, and repeats it. Requests pass through the proxy of tests/chaos, which counts what comes of each.
FOLDER must be new.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import botocore.session
import psutil
from bad_archive import write_files, write_tars
from bad_images import ROOT, flowscore, train

sys.path.insert(0, str(ROOT / "tests" / "chaos"))
from fault_proxy import FaultProxy, Request

from pipeline.storage.store import open_store

CEPH = ROOT / "tests" / "s3" / "ceph.sh"
BUCKET = "resume"
POLL_S = 0.05


class Command:
    """`flowscore score` under way in a process group of its own; its driver's largest resident set is kept, in bytes."""

    def __init__(self, *arguments: object) -> None:
        self.started = time.monotonic()
        self.peak = 0
        self._process = subprocess.Popen(
            [sys.executable, "-m", "jobs.cli", "score", *map(str, arguments)],
            cwd=ROOT,
            env={**os.environ, "RAY_DATA_DISABLE_PROGRESS_BARS": "1", "PYTHONPATH": str(ROOT)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        threading.Thread(target=self._watch, daemon=True).start()

    def kill(self) -> None:
        """The driver; Ray's processes end when they find it gone."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def running(self) -> bool:
        return self._process.poll() is None

    def seconds(self) -> float:
        return time.monotonic() - self.started

    def end_well(self) -> float:
        """How long it took, in seconds."""
        if self._process.wait():
            raise SystemExit(f"flowscore score ended with {self._process.returncode}")
        return self.seconds()

    def _watch(self) -> None:
        driver = psutil.Process(self._process.pid)
        while self.running():
            try:
                self.peak = max(self.peak, driver.memory_info().rss)
            except psutil.NoSuchProcess:
                return
            time.sleep(POLL_S)


def commits(requests: list[Request]) -> int:
    return sum(request.method == "PUT" and "/commits/" in request.key and request.done for request in requests)


def read_of(requests: list[Request], prefix: str, listings: bool = False) -> int:
    """Bytes of the objects, or of the listings, that came of GETs below the prefix."""
    inside = [request for request in requests if request.method == "GET" and request.key.startswith(f"{BUCKET}/{prefix}")]
    return sum(request.sent for request in inside if request.listing == listings)


def state(output: str) -> dict[str, int]:
    """Bytes of state on storage: planned parts, commits, copies of models and the rest."""
    found: Counter[str] = Counter()
    for entry in open_store(output).list("_flowscore/"):
        kind = next((name for name in ("commits", "parts", "artifacts") if f"/{name}/" in entry.key), "rest")
        found[kind] += entry.size
    return dict(found)


def measure(folder: Path, images: int, source: str, share: float, model: Path | None, proxy: FaultProxy) -> dict[str, Any]:
    """Score, kill, go on; what each took."""
    {"tar": write_tars, "files": write_files}[source](folder / "archive", images, False)
    archive = open_store(f"s3://{BUCKET}/in")
    size = 0
    for path in sorted((folder / "archive").rglob("*")):
        if path.is_file():
            archive.put(str(path.relative_to(folder / "archive")), path.read_bytes())
            size += path.stat().st_size
    model = model or train(folder)
    outputs = {name: f"s3://{BUCKET}/{name}" for name in ("whole", "killed")}
    score = {name: ("--model", model, "--input", archive.uri, "--output", output) for name, output in outputs.items()}

    proxy.arm()
    whole = Command(*score["whole"])
    whole_s = whole.end_well()
    expected, whole_read = commits(proxy.passed), read_of(proxy.passed, "in/")

    proxy.arm()
    first = Command(*score["killed"])
    while commits(proxy.passed) < int(share * expected):
        if not first.running():
            raise SystemExit("the command ended before it could be killed")
        time.sleep(POLL_S)
    first.kill()
    done = commits(proxy.passed)
    before = state(outputs["killed"])

    proxy.arm()
    second = Command(*score["killed"])
    first_commit_s = None
    while second.running():
        if first_commit_s is None and commits(proxy.passed):
            first_commit_s = round(second.seconds(), 1)
        time.sleep(POLL_S)
    second_s = second.end_well()
    requests = proxy.passed
    published = state(outputs["killed"])
    flowscore("finalize", "--output", outputs["killed"], "--clean")
    cleaned = state(outputs["killed"])
    return {
        "images": images,
        "source": source,
        "input_bytes": size,
        "input_bytes_read_by_whole_run": whole_read,
        "share_done_at_kill": round(done / expected, 4),
        "share_of_input_read_by_resume": round(read_of(requests, "in/") / size, 4),
        "bytes_of_listings_an_image": round(read_of(requests, "in", listings=True) / images, 1),
        "state_bytes_read_by_resume": read_of(requests, "killed/_flowscore/"),
        "first_commit_after_s": first_commit_s,
        "whole_run_s": round(whole_s, 1),
        "resume_s": round(second_s, 1),
        "driver_peak_mib": {"whole": whole.peak >> 20, "resume": second.peak >> 20},
        "state_bytes_an_image": {
            name: {kind: round(size / images, 1) for kind, size in sizes.items()}
            for name, sizes in (("at the kill", before), ("published", published), ("after --clean", cleaned))
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--source", choices=("tar", "files"), default="tar")
    parser.add_argument("--done", type=float, default=0.99)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--port", type=int, default=21_700)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    folder = given.folder.resolve()
    folder.mkdir(parents=True)
    server = Path(f"/tmp/flowscore-resume-{os.getpid()}")
    subprocess.run(["bash", CEPH, "up", server, str(given.port), str(os.getpid())], check=True, stdout=subprocess.DEVNULL)
    try:
        upstream = f"http://127.0.0.1:{given.port}"
        os.environ |= {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "testtest", "AWS_DEFAULT_REGION": "us-east-1"}
        botocore.session.get_session().create_client("s3", endpoint_url=upstream).create_bucket(Bucket=BUCKET)
        with FaultProxy(upstream) as proxy:
            os.environ["AWS_ENDPOINT_URL"] = proxy.url
            result = measure(folder, given.images, given.source, given.done, given.model, proxy)
    finally:
        subprocess.run(["bash", CEPH, "down", server], check=True)
        shutil.rmtree(folder)
    print(json.dumps(result, indent=1))
    if given.json:
        given.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
