"""Seeded histories of commands over one output: `--histories` of them, from `--histories-seed` on."""

import shutil
import tempfile
from pathlib import Path

import pytest
from history import History
from moved_clock import MovedClock
from places import Disk
from storage_faults import StorageFaults

MEMORY = Path("/dev/shm")


ENOUGH = 60
MUST_MEET = {
    *(("lost", target) for target in ("manifest", "seal", "entry", "commit", "tally", "delta")),
    *((f"kill {when}", target) for when in ("before", "after") for target in ("manifest", "seal", "entry", "commit", "delta")),
    ("score", "listing"),  # both drivers plan at once
    ("promotion", "listing"),
    ("compaction", "manifest"),  # a zombie wakes after a compaction
    ("foreign", "delta"),
    ("accept", "late"),
}
"""Of so many histories, some must meet each of these: see StorageFaults.met."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" not in metafunc.fixturenames:
        return
    first = metafunc.config.getoption("--histories-seed")
    metafunc.parametrize("seed", range(first, first + metafunc.config.getoption("--histories")))


@pytest.fixture(scope="module")
def laboratory():
    clock = MovedClock()
    faults = StorageFaults(clock)
    with pytest.MonkeyPatch.context() as patch:
        clock.install(patch)
        faults.install(patch)
        yield faults, clock


def test_history(seed, laboratory):
    folder = Path(tempfile.mkdtemp(prefix="flowscore-history-", dir=MEMORY if MEMORY.is_dir() else None))
    faults, clock = laboratory
    history = History(seed, folder, Disk(folder / "output", clock), faults, clock)
    try:
        history.run()
    except BaseException:
        print("\n".join(history.steps))
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_the_histories_met_all_that_matters(request, laboratory):
    if request.config.getoption("--histories") >= ENOUGH:
        assert laboratory[0].met.keys() >= MUST_MEET, MUST_MEET - laboratory[0].met.keys()
