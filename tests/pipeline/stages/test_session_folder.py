"""Where Ray's session goes: short enough for its sockets, beside shared memory that is large enough."""

import shutil
import tempfile
from collections import namedtuple
from pathlib import Path

import pytest

from pipeline.stages import session_folder as module
from pipeline.stages.session_folder import LONGEST_FOLDER, NoSessionFolder, session_folder

Usage = namedtuple("Usage", "total used free")


@pytest.fixture(autouse=True)
def surroundings(monkeypatch):
    """Ample shared memory, and a short folder of this test's own for TMPDIR."""
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: Usage(1 << 40, 0, 1 << 40))
    short = Path(tempfile.mkdtemp(prefix="s", dir="/tmp"))
    monkeypatch.setattr(module, "SHORT_FOLDERS", (short,))
    yield short
    shutil.rmtree(short)


def temporary(monkeypatch, folder):
    folder.mkdir(parents=True, exist_ok=True)
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def test_a_short_folder_is_rays_own_choice(monkeypatch, surroundings, tmp_path):
    place = temporary(monkeypatch, surroundings / "t")
    assert session_folder(tmp_path) == (place / "ray", None, None, ())


@pytest.mark.parametrize("name", ["scratch_of_a_batch_system_" * 4, "ü" * 20, "a/b/c/" * 10])
def test_a_long_folder_gives_way_to_a_short_one_for_all_but_what_is_large(monkeypatch, surroundings, tmp_path, name):
    long = temporary(monkeypatch, surroundings / name)
    found = session_folder(tmp_path)
    assert found.folder == surroundings / "ray" and found.folder.is_dir()
    assert found.spill == long / "ray" / "spilled" and found.spill.is_dir()
    (line,) = found.lines
    assert str(long) in line and str(found.folder) in line and "\n" not in line
    assert found.options() == {"_temp_dir": str(found.folder), "object_spilling_directory": str(found.spill)}


def test_the_limit_is_where_a_socket_no_longer_fits(monkeypatch, surroundings, tmp_path):
    fits = surroundings / ("x" * (LONGEST_FOLDER - len(f"{surroundings}//ray")))
    assert not session_folder_at(monkeypatch, fits, tmp_path).lines
    assert session_folder_at(monkeypatch, Path(f"{fits}x"), tmp_path).lines


def session_folder_at(monkeypatch, folder, tmp_path):
    temporary(monkeypatch, folder)
    return session_folder(tmp_path)


def test_rays_own_variable_counts_before_tmpdir(monkeypatch, surroundings, tmp_path):
    temporary(monkeypatch, surroundings / ("long" * 20))
    monkeypatch.setenv("RAY_TMPDIR", str(surroundings / "r"))
    assert session_folder(tmp_path).folder == surroundings / "r" / "ray"


def test_no_short_folder_at_all(monkeypatch, surroundings, tmp_path):
    temporary(monkeypatch, surroundings / ("long" * 20))
    monkeypatch.setattr(module, "SHORT_FOLDERS", (surroundings / "none",))
    with pytest.raises(NoSessionFolder, match="TMPDIR must have at most .* Let RAY_TMPDIR name a short folder"):
        session_folder(tmp_path)


def test_a_folder_that_cannot_be_written(monkeypatch, surroundings, tmp_path):
    (surroundings / "file").write_bytes(b"")
    for place in (surroundings / "file", Path("/proc/x")):
        monkeypatch.setenv("RAY_TMPDIR", str(place))
        with pytest.raises(NoSessionFolder, match="Ray's folder must be one that can be written; got") as caught:
            session_folder(tmp_path)
        assert "\n" not in str(caught.value)


def test_no_shared_memory_says_how_to_mount_it(monkeypatch, surroundings, tmp_path):
    temporary(monkeypatch, surroundings / "t")
    with pytest.raises(NoSessionFolder, match="shm must exist for Ray's objects; got nothing. .*--shm-size=8g"):
        session_folder(tmp_path / "shm")


@pytest.mark.parametrize("mib", [0, 64, 1023])
def test_little_shared_memory_puts_objects_on_disk(monkeypatch, surroundings, tmp_path, mib):
    temporary(monkeypatch, surroundings / "t")
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: Usage(0, 0, mib << 20))
    found = session_folder(tmp_path)
    assert found.objects == found.folder and found.options()["_plasma_directory"] == str(found.folder)
    assert len(found.lines) == 1 and "--shm-size=8g" in found.lines[0]
