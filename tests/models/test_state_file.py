"""State on disk comes back bit for bit, a damaged or strange file is told, and a writer that dies leaves the old one."""

from pathlib import Path

import numpy as np
import pytest
import torch

from models import state_file
from models.state_file import UnusableState, read, write

STATE = {
    "optimizer": {0: {"step": torch.tensor(3.0), "lr": 0.1 + 0.2}, 1: {}},
    "weights": torch.randn(4, 3, 5, 5).contiguous(memory_format=torch.channels_last),
    "half": torch.randn(3).bfloat16(),
    "empty": torch.zeros(0, 2),
    "scores": np.array([1.5, np.nan], np.float32),
    "positions": np.arange(3),
    "history": [(0.5, {"spot": 1.0}), None, True, "π\n"],
}


def test_every_kind_of_value_comes_back(tmp_path: Path) -> None:
    write(tmp_path / "a.state", "tile", STATE)
    found = read(tmp_path / "a.state", "tile")
    assert list(found) == list(STATE) and list(found["optimizer"]) == [0, 1]
    assert found["optimizer"][0]["lr"] == 0.1 + 0.2 and torch.equal(found["optimizer"][0]["step"], torch.tensor(3.0))
    for name in ("weights", "half", "empty"):
        assert torch.equal(found[name], STATE[name]) and found[name].dtype == STATE[name].dtype
    assert found["weights"].stride() == STATE["weights"].stride()
    for name in ("scores", "positions"):
        np.testing.assert_array_equal(found[name], STATE[name])
        assert found[name].dtype == STATE[name].dtype
    assert found["history"] == [[0.5, {"spot": 1.0}], None, True, "π\n"]
    assert [path.name for path in tmp_path.iterdir()] == ["a.state"]


def test_any_damage_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.state"
    write(path, "tile", STATE)
    whole = path.read_bytes()
    damaged = [whole[:cut] for cut in (0, 1, 64, 65, 100, len(whole) - 1)]
    damaged += [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in range(0, len(whole), 97)]
    for content in [*damaged, whole + b"\0", b"torn\n\n\n"]:
        path.write_bytes(content)
        with pytest.raises(UnusableState, match=r"a\.state is damaged"):
            read(path, "tile")


def test_the_state_of_something_else_is_told(tmp_path: Path) -> None:
    write(tmp_path / "a.state", "tile", 1)
    with pytest.raises(UnusableState, match="other images or settings"):
        read(tmp_path / "a.state", "cloth")
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "b.state", "tile")


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_writer_that_fails_leaves_the_old_state(tmp_path: Path, monkeypatch, call: str) -> None:
    write(tmp_path / "a.state", "tile", 1)

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(state_file.os, call, full)
    with pytest.raises(OSError, match="No space"):
        write(tmp_path / "a.state", "tile", 2)
    assert read(tmp_path / "a.state", "tile") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.state"]


def test_a_signal_that_comes_when_the_file_is_there_stays_itself(tmp_path: Path, monkeypatch) -> None:
    replace = state_file.os.replace

    def interrupted(*arguments):
        replace(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(state_file.os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "a.state", "tile", 2)
    assert read(tmp_path / "a.state", "tile") == 2
