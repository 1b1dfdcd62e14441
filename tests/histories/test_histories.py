"""Seeded histories of commands over one output: `--histories` of them, from `--histories-seed` on."""

import shutil
import tempfile
from pathlib import Path

import pytest
from bucket import Bucket
from conftest import new_bucket
from covered import REASONS
from history import History
from kept_tables import KeptTables
from moved_clock import MovedClock
from moved_proxy import MovedProxy
from places import Disk
from storage_faults import StorageFaults

from pipeline.tables import publication

MEMORY = Path("/dev/shm")


ENOUGH = 60
MUST_MEET = {
    *(("lost", target) for target in ("manifest", "seal", "entry", "commit", "tally", "delta")),
    *((f"kill {when}", target) for when in ("before", "after") for target in ("manifest", "seal", "entry", "commit", "delta")),
    ("score", "listing"),  # both drivers plan at once
    ("promotion", "listing"),
    ("compaction", "manifest"),  # a zombie wakes after a compaction
    ("foreign", "delta"),
    ("foreign", "data"),
    ("late clean", "data"),
    ("accept", "late"),
    *(("verdicts", how) for how in ("for the first time", "of a new model", "by another calibration", "by another rule")),
    ("verdicts", "after a rekey"),
    *(("late image", what) for what in ("its lot", "its piece", "its piece without a lot")),
    *(("lot", state) for state in ("ok", "hold", "watch", "not_judged", "without images")),
    *(("reason", why) for why in REASONS.values()),
    *(("judge struck", where) for where in ("entry", "manifest", "delta", "seal")),
    *(("judge", where) for where in ("data", "manifest", "delta", "seal")),  # a rule is decided while others publish
    ("threshold", "of a night"),
}
"""Of so many histories, some must meet each of these: see StorageFaults.met."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    for name, option in (("seed", "--histories"), ("s3_seed", "--s3-histories")):
        if name in metafunc.fixturenames:
            first = metafunc.config.getoption("--histories-seed")
            metafunc.parametrize(name, range(first, first + metafunc.config.getoption(option)))


@pytest.fixture(scope="module")
def laboratory():
    clock = MovedClock()
    faults = StorageFaults(clock)
    with pytest.MonkeyPatch.context() as patch:
        clock.install(patch)
        faults.install(patch)
        kept = KeptTables(faults)
        patch.setattr(publication, "open_table", kept.opened(publication.open_table))
        patch.setattr(tempfile, "tempdir", str(MEMORY) if MEMORY.is_dir() else None)
        yield faults, clock, kept


@pytest.fixture
def folder(laboratory):
    folder = Path(tempfile.mkdtemp(prefix="flowscore-history-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def server(s3):
    """An S3 server; before `laboratory`, since no time passes there while it starts."""
    return s3


def test_history_on_s3(s3_seed, server, laboratory, folder, monkeypatch):
    faults, clock, kept = laboratory
    with MovedProxy(server, clock, faults.made) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        monkeypatch.setattr(faults, "proxy", proxy)
        live(History(s3_seed, folder, Bucket(f"{new_bucket(server)}/output", server, clock), faults, clock, kept, most=15))


def test_history(seed, laboratory, folder):
    faults, clock, kept = laboratory
    live(History(seed, folder, Disk(folder / "output", clock), faults, clock, kept))


def live(history: History) -> None:
    try:
        history.run()
    except BaseException:
        print("\n".join(history.steps))
        raise
    kind = "every step struck" if history.struck and all(history.struck) else "some steps struck"
    history.faults.met["history", kind] += 1


def test_the_histories_met_all_that_matters(request, laboratory, capsys):
    met = laboratory[0].met
    told = ", ".join(f"{what} at {where} {count}" for (what, where), count in sorted(met.items()))
    with capsys.disabled():
        print(f"\nmet: {told}")
    if request.config.getoption("--histories") >= ENOUGH:
        assert met["history", "every step struck"] >= met["history", "some steps struck"]
        assert met.keys() >= MUST_MEET, MUST_MEET - met.keys()
