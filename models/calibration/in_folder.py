"""Puts a calibration into a model's folder, and with it a card that says what it promises."""

import os
import shutil
import tempfile
from pathlib import Path

from models import artifact
from models.calibration.calibration import Calibration
from models.calibration.files import encoded
from models.calibration.promises import promises
from models.card import card


def put(directory: Path, calibration: Calibration) -> artifact.Artifact:
    """Replace the calibration and the card. The model and its digest stay as they are.

    A new folder is made beside the directory and renamed, so that a command that is stopped leaves the folder as it was.
    Raises ArtifactError if the calibration is of another model.

    >>> from models import registry
    >>> from models.calibration.example import calibration
    >>> from models.config import ArtifactConfig
    >>> from dataclasses import replace
    >>> config = ArtifactConfig(name="tile", detector="patchsvdd", hyperparameters={"bank_size": 8})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     saved = artifact.save(Path(folder) / "tile", config, registry.build(config), card="# tile")
    ...     made = replace(calibration(pieces=60), model_digest=saved.model_digest)
    ...     put(saved.directory, made).model_digest == saved.model_digest
    True
    """
    directory = directory.resolve()  # a link to the folder stays one
    opened = artifact.read(directory, calibration=False)
    if calibration.model_digest != opened.model_digest:
        made_for, found = calibration.model_digest[:12], opened.model_digest[:12]
        raise artifact.ArtifactError(
            f"calibration must be of the model in {directory}, digest {found}; it is of {made_for}. Calibrate this model."
        )
    partial = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
    try:
        shutil.copytree(directory, partial, symlinks=True, copy_function=_linked, dirs_exist_ok=True)
        for name, content in encoded(calibration).items():
            _write(partial / name, content)
        if opened.config.trained:
            _write(partial / artifact.CARD, card(opened.config, promises(calibration)).encode())
        artifact.write_digests(partial)
        artifact.put_in_place(partial, directory)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return artifact.read(directory)


def _linked(source: str, target: str) -> None:
    """A model's weights are not written again; a file system without hard links copies them."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)


def _write(path: Path, content: bytes) -> None:
    """Never into a file that the old folder shares."""
    path.unlink(missing_ok=True)
    path.write_bytes(content)
