"""The folder of a training: found again by the same command only, used by one process, and gone in the end."""

import platform
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jobs.command.errors import UsageError
from jobs.settings.training import TrainSettings
from jobs.training import workspace
from jobs.training.workspace import PREFIX, READ, opened
from models import registry
from models.config import ArtifactConfig, InputConfig
from models.detector import FitRun


@pytest.fixture
def goods(tmp_path: Path) -> Path:
    folder = tmp_path / "good"
    folder.mkdir()
    for number in range(3):
        Image.fromarray(np.full((8, 8), number, np.uint8)).save(folder / f"{number}.png")
    return folder


def settings(goods: Path, place: Path | None, **fields) -> TrainSettings:
    return TrainSettings(input=str(goods), model_out=str(goods.parent / "model"), workspace=place, **fields)


def identity(given: TrainSettings, seed: int = 0, batch_size: int = 16) -> str:
    config = {"name": "tiny", "detector": "patchsvdd", "input": InputConfig(height=64, width=64), "batch_size": batch_size}
    detector = registry.build(ArtifactConfig(**config, hyperparameters={"bank_size": 8}))
    with opened(given, detector, FitRun(detector.Training(), seed), "cpu") as place:
        assert place.folder.is_dir()
        if given.workspace is None:
            assert place.identity is place.identity_with(["a"]) is None
            return ""
        assert place.folder.parent == given.workspace
        assert place.identity and place.identity_with(["a"]) != place.identity_with(["b"])
        return place.identity


def test_the_same_command_finds_its_folder_and_no_other_one_does(goods: Path, tmp_path: Path) -> None:
    place, lines = tmp_path / "kept", tmp_path / "exclude.txt"
    lines.write_text("a.png\n")
    first = identity(settings(goods, place))
    same = settings(goods, place, name="other-name", device="cpu").model_copy(update={"model_out": "s3://else/where"})
    assert identity(same) == first
    excluded = identity(settings(goods, place, exclude=lines))
    lines.write_text("b.png\n")
    others = [
        identity(settings(goods, place, seed=1)),
        identity(settings(goods, place, selection_share=0.2)),
        identity(settings(goods, place, exclude=lines)),
        identity(settings(goods, place), batch_size=4),
        excluded,
    ]
    Image.fromarray(np.full((9, 8), 9, np.uint8)).save(goods / "0.png")
    others.append(identity(settings(goods, place)))
    assert len({first, *others}) == 7
    assert not list(place.iterdir())  # all succeeded


def test_another_model_of_cpu_is_another_machine(goods: Path, tmp_path: Path, monkeypatch) -> None:
    """Also where both have the same instructions."""
    told, before = tmp_path / "cpuinfo", workspace._processor
    told.write_text("processor\t: 0\nmodel name\t: Xeon(R) 8480\n\nprocessor\t: 1\nmodel name\t: Xeon(R) 8480\n")
    assert before(told) == "Xeon(R) 8480"
    assert before(tmp_path / "none") == platform.processor()
    first = identity(settings(goods, tmp_path / "kept"))
    monkeypatch.setattr(workspace, "_processor", lambda: before(told))
    assert identity(settings(goods, tmp_path / "kept")) != first


def test_scratch_is_deleted_whatever_happens(goods: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    assert identity(settings(goods, None)) == ""
    assert not list((tmp_path / "scratch").iterdir())


@pytest.mark.parametrize("read", [False, True])
def test_a_failed_training_leaves_what_can_be_gone_on_from(goods: Path, tmp_path: Path, read: bool) -> None:
    detector = registry.build(ArtifactConfig(name="tiny", detector="patchsvdd", hyperparameters={"bank_size": 8}))
    run, given = FitRun(detector.Training()), settings(goods, tmp_path / "kept")
    with pytest.raises(KeyboardInterrupt) as stopped, opened(given, detector, run, "cpu") as place:
        if read:
            (place.folder / READ).write_bytes(b"")
        raise KeyboardInterrupt
    assert getattr(stopped.value, "__notes__", []) == ["the same command goes on where this one stopped"] * read
    assert len(list((tmp_path / "kept").glob(f"{PREFIX}*"))) == read
    full = r"--workspace must be a folder on a disk with room; got '.*kept'\. No space left on device\. Make room"
    with pytest.raises(UsageError, match=full), opened(given, detector, run, "cpu"):
        raise OSError(28, "No space left on device")


def test_one_process_uses_a_folder(goods: Path, tmp_path: Path) -> None:
    detector = registry.build(ArtifactConfig(name="tiny", detector="patchsvdd", hyperparameters={"bank_size": 8}))
    run, given = FitRun(detector.Training()), settings(goods, tmp_path / "kept")
    with opened(given, detector, run, "cpu") as place:
        with pytest.raises(UsageError, match="--workspace must be used by one training at a time"):
            with opened(given, detector, run, "cpu"):
                pytest.fail("two at once")
        assert place.folder.is_dir()
