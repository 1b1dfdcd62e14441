"""A calibration goes into a model's folder whole or not at all, and the model stays what it was."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from models import artifact, registry
from models.artifact import Artifact, ArtifactError
from models.calibration import files, in_folder
from models.calibration.calibration import Calibration
from models.calibration.example import calibration
from models.config import ArtifactConfig

CONFIG = ArtifactConfig(name="tile", detector="patchsvdd", hyperparameters={"bank_size": 8})


@pytest.fixture
def saved(tmp_path: Path) -> Artifact:
    return artifact.save(tmp_path / "tile", CONFIG, registry.build(CONFIG), "# Card\n")


def of(saved: Artifact, pieces: int = 60) -> Calibration:
    return replace(calibration(pieces=pieces), model_digest=saved.model_digest)


def test_the_model_stays_and_the_calibration_is_replaced(saved: Artifact) -> None:
    (saved.directory / "notes.txt").write_text("mine")
    weights = os.stat(saved.directory / "model.safetensors").st_ino
    digests = []
    for pieces in (60, 61, 60):
        found = in_folder.put(saved.directory, of(saved, pieces))
        assert found.model_digest == saved.model_digest
        read = files.read(found)
        assert read is not None and len(read.groups[0].score) == pieces
        digests.append(found.calibration_digest)
    assert digests[0] == digests[2] != digests[1] and None not in digests
    assert (saved.directory / "notes.txt").read_text() == "mine"
    assert os.stat(saved.directory / "model.safetensors").st_ino == weights  # not written again
    assert [path.name for path in saved.directory.parent.iterdir()] == ["tile"]


def test_a_link_to_the_folder_stays_a_link(saved: Artifact, tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to("tile")
    in_folder.put(tmp_path / "current", of(saved))
    assert (tmp_path / "current").is_symlink() and artifact.read(tmp_path / "tile").calibration_digest is not None


def test_a_calibration_of_another_model_is_refused(saved: Artifact) -> None:
    with pytest.raises(ArtifactError, match="calibration must be of the model in"):
        in_folder.put(saved.directory, calibration(pieces=60))
    assert artifact.read(saved.directory).calibration_digest is None


def test_a_write_that_fails_leaves_the_folder_as_it_was(saved: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    first = in_folder.put(saved.directory, of(saved))

    def full(path: Path, partial: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(artifact, "put_in_place", full)
    with pytest.raises(OSError, match="No space"):
        in_folder.put(saved.directory, of(saved, pieces=61))
    assert artifact.read(saved.directory) == first
    assert [path.name for path in saved.directory.parent.iterdir()] == ["tile"]


def test_a_damaged_calibration_does_not_stop_a_new_one(saved: Artifact) -> None:
    in_folder.put(saved.directory, of(saved))
    (saved.directory / "calibration.safetensors").unlink()
    with pytest.raises(ArtifactError):
        artifact.read(saved.directory)
    assert in_folder.put(saved.directory, of(saved)).calibration_digest is not None
