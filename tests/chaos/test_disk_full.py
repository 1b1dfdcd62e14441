"""The disk of the output, or of scratch files, is full in the middle of a run."""

import subprocess
from pathlib import Path

import chaos_archive
import pytest
from driver import Driver, prepare
from experiment import differences

from pipeline.storage.store import open_store

PARTIAL, REFUSED, DONE = 5, 2, 0
STEPS_KIB = {"output": (64, 128, 192, 256, 320, 384, 448, 512), "scratch": (4, 8, 16, 24, 32, 48)}


@pytest.fixture
def small_disk(tmp_path):
    """A file system for this test, and a function that changes its size."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def resize(size: str) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size}", folder], check=True)

    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1G", "flowscore-test", folder], check=True)
    yield folder, resize
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture(scope="module")
def archive(tmp_path_factory, marking_model):
    """A local archive, and the rows that an uninterrupted run publishes for it."""
    prepare()
    folder = tmp_path_factory.mktemp("archive")
    chaos_archive.fill(open_store(folder / "in"))
    code, log = run(marking_model, folder / "in", folder / "whole", folder / "log", {})
    assert code == DONE, log
    return folder / "in", chaos_archive.published(str(folder / "whole"))


def run(model: str, source: Path, output: Path, log: Path, environment: dict[str, str]) -> tuple[int, str]:
    driver = Driver(chaos_archive.settings(model, str(source), str(output)), environment, log)
    return driver.wait(), log.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("where", ["output", "scratch"])
def test_a_full_disk_loses_nothing(where, small_disk, archive, marking_model, tmp_path):
    source, whole = archive
    disk, resize = small_disk
    output = disk if where == "output" else tmp_path / "out"
    environment = {"TMPDIR": str(disk)} if where == "scratch" else {}
    refusals = 0
    for size in STEPS_KIB[where]:
        resize(f"{size}k")
        code, log = run(marking_model, source, output, tmp_path / f"log-{size}", environment)
        assert code in (DONE, PARTIAL, REFUSED), log
        if code:
            refusals += 1
            (said,) = [line for line in log.splitlines() if "error: " in line]
            assert "No space left" in said and "Traceback" not in log, log
    assert refusals, "the disk was never full"
    resize("1G")
    code, log = run(marking_model, source, output, tmp_path / "log", environment)
    assert code == DONE, log
    assert differences(chaos_archive.published(str(output)), whole) == []
