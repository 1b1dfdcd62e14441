"""Seeded histories of commands over one output: `--histories` of them, from `--histories-seed` on."""

import shutil
import tempfile
from pathlib import Path

import pytest
from history import History
from kept_tables import KeptTables
from moved_clock import MovedClock
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
        kept = KeptTables(faults)
        patch.setattr(publication, "open_table", kept.opened(publication.open_table))
        patch.setattr(tempfile, "tempdir", str(MEMORY) if MEMORY.is_dir() else None)
        yield faults, clock, kept


def test_history(seed, laboratory):
    folder = Path(tempfile.mkdtemp(prefix="flowscore-history-"))
    faults, clock, kept = laboratory
    kept.forget()
    history = History(seed, folder, Disk(folder / "output", clock, kept), faults, clock)
    try:
        history.run()
        faults.met["history", "of struck steps" if history.struck and all(history.struck) else "of other steps"] += 1
    except BaseException:
        print("\n".join(history.steps))
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_the_histories_met_all_that_matters(request, laboratory):
    if request.config.getoption("--histories") >= ENOUGH:
        met = laboratory[0].met
        assert met.keys() >= MUST_MEET, MUST_MEET - met.keys()
        assert met["history", "of struck steps"] >= met["history", "of other steps"]
        told = ", ".join(f"{what} at {where} {count}" for (what, where), count in sorted(met.items()))
        request.config.pluginmanager.get_plugin("terminalreporter").write_line(f"\nmet: {told}")
