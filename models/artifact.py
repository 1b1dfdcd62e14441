"""A trained model as a directory: config.json, model.safetensors, card.md, digests.json, and later a calibration.

Loading executes nothing and fetches nothing: the weights file holds the backbone too. Only the functions that save and load
weights import torch: the driver of a scoring run reads and checks an artifact and need not wait for that import.
"""

import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from safetensors import SafetensorError

from models import registry
from models.arithmetic import check_environment, set_arithmetic
from models.backbones.config import STORED, check_known
from models.canonical_json import canonical_json
from models.config import ArtifactConfig
from models.faults import ModelError

if TYPE_CHECKING:
    from models.detector import Detector

CONFIG, WEIGHTS, CARD, DIGESTS = "config.json", "model.safetensors", "card.md", "digests.json"
SCORING_FILES = (CONFIG, WEIGHTS)  # what model_digest covers
CALIBRATION_FILES = ("calibration.json", "calibration.safetensors")


class ArtifactError(ModelError):
    """An artifact that cannot be used; the message names the file, what differs and what to do."""


@dataclass(frozen=True)
class Artifact:
    """A directory whose digests were checked."""

    directory: Path
    config: ArtifactConfig
    model_digest: str
    calibration_digest: str | None


def file_text(document: object) -> str:
    """A document as the JSON files of an artifact hold it; digests are over these bytes.

    >>> file_text({"b": 0.1, "a": None}).split()
    ['{', '"a":', 'null,', '"b":', '0.1', '}']
    """
    return canonical_json(document, indent=1) + "\n"


def digest(directory: Path, files: tuple[str, ...]) -> str:
    """SHA-256 over the names and contents of the files, 64 hex digits.

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = (Path(folder) / "a.json").write_text("{}")
    ...     digest(Path(folder), ("a.json",))[:8]
    '468c600c'
    """
    total = hashlib.sha256()
    for name in files:
        total.update(f"{name}:{_file_digest(directory / name)}\n".encode())
    return total.hexdigest()


def check_place(directory: Path) -> None:
    """Raises ArtifactError unless an artifact may be saved there.

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     check_place(Path(folder))  # raises nothing: it is empty
    """
    if not directory.exists() or (directory / DIGESTS).is_file():
        return
    if not directory.is_dir() or any(directory.iterdir()):
        held = "holds other files" if directory.is_dir() else "is a file"
        raise ArtifactError(f"{directory} must be new, empty or an artifact; it {held}. Choose another --model-out.")


def save(directory: Path, config: ArtifactConfig, detector: "Detector", card: str) -> Artifact:
    """Write an artifact in a folder beside the directory, then rename it; it replaces an artifact that is there.

    The artifact keeps the detector's own config, every default filled in, under config's name and with config's map threshold
    and record of the training. It keeps only the name of a weights file: the folder means nothing on another machine.

    >>> config = ArtifactConfig(name="tile", detector="patchsvdd", hyperparameters={"bank_size": 8})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     artifact = save(Path(folder) / "tile", config, registry.build(config), card="# tile")
    ...     sorted(path.name for path in artifact.directory.iterdir())
    ['card.md', 'config.json', 'digests.json', 'model.safetensors']
    """
    from safetensors.torch import save_file

    directory = Path(directory)
    check_place(directory)
    backbone = detector.config.backbone
    if backbone is not None and backbone.weights not in ("auto", "hub", "none"):
        backbone = backbone.model_copy(update={"weights": Path(backbone.weights).name})
    kept = {"name": config.name, "trained": config.trained, "map_threshold": config.map_threshold, "backbone": backbone}
    config = detector.config.model_copy(update=kept)
    directory.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
    try:
        (partial / CONFIG).write_text(file_text(config.model_dump(mode="json")), encoding="utf-8")
        save_file({key: tensor.cpu().contiguous() for key, tensor in detector.state_dict().items()}, partial / WEIGHTS)
        (partial / CARD).write_text(card, encoding="utf-8")
        write_digests(partial)
        put_in_place(partial, directory)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return read(directory)


def put_in_place(partial: Path, directory: Path) -> None:
    """Rename a complete folder to the directory beside it; what was there is deleted.

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     (Path(folder) / "new").mkdir()
    ...     put_in_place(Path(folder) / "new", Path(folder) / "tile")
    ...     [path.name for path in Path(folder).iterdir()]
    ['tile']
    """
    os.chmod(partial, 0o755)
    if not directory.exists():
        os.rename(partial, directory)
        return
    replaced = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
    os.rename(directory, replaced / "old")
    os.rename(partial, directory)
    shutil.rmtree(replaced)


def write_digests(directory: Path) -> None:
    """Record the digests of the files that are there: after training, and again after calibrating.

    >>> config = ArtifactConfig(name="tile", detector="patchsvdd", hyperparameters={"bank_size": 8})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     artifact = save(Path(folder) / "tile", config, registry.build(config), card="# tile")
    ...     write_digests(artifact.directory)
    ...     read(artifact.directory).model_digest == artifact.model_digest
    True
    """
    calibrated = all((directory / name).is_file() for name in CALIBRATION_FILES)
    digests = {
        "model_digest": digest(directory, SCORING_FILES),
        "calibration_digest": digest(directory, CALIBRATION_FILES) if calibrated else None,
        "files": {
            name: _file_digest(directory / name) for name in (*SCORING_FILES, *(CALIBRATION_FILES if calibrated else ()))
        },
    }
    partial = directory / f".{DIGESTS}.new"
    partial.write_text(file_text(digests), encoding="utf-8")
    os.replace(partial, directory / DIGESTS)


def read(directory: Path, calibration: bool = True) -> Artifact:
    """Check the digests over the bytes and read the config. Other files in the directory are ignored.

    calibration: False ignores a calibration too, damaged or not, for a command that makes a new one.

    >>> config = ArtifactConfig(name="tile", detector="patchsvdd", hyperparameters={"bank_size": 8})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = save(Path(folder) / "tile", config, registry.build(config), card="# tile")
    ...     read(Path(folder) / "tile").config.name
    'tile'
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise ArtifactError(f"model must be an artifact's directory; {directory} is not there. Train one, or check --model.")
    recorded = _json(directory, DIGESTS)
    files = recorded.get("files") if isinstance(recorded, dict) else None
    if not isinstance(files, dict) or not set(SCORING_FILES) <= set(files):
        raise ArtifactError(
            f"{directory / DIGESTS} must list {', '.join(SCORING_FILES)}; it does not. Restore the artifact or train again."
        )
    present = [name for name in CALIBRATION_FILES if calibration and (directory / name).exists()]
    for name in (*SCORING_FILES, *(CALIBRATION_FILES if calibration else ())):
        if name not in files and name not in present:
            continue
        actual = _file_digest(directory / name)
        if files.get(name) != actual:
            raise ArtifactError(
                f"{directory / name} must have the SHA-256 that {DIGESTS} records, {files.get(name)}; got {actual}. "
                "The file was changed or damaged: restore the artifact, or train (for a calibration: calibrate) again."
            )
    found = digest(directory, SCORING_FILES), digest(directory, CALIBRATION_FILES) if present else None
    if found != (recorded.get("model_digest"), recorded.get("calibration_digest") if calibration else None):
        raise ArtifactError(f"{directory / DIGESTS} must fit its own file list; it does not. Restore the artifact.")
    try:
        config = ArtifactConfig.model_validate(_json(directory, CONFIG), context=STORED)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ArtifactError(
            f"{directory / CONFIG} must be a config of this version of flowscore; {faults}. "
            "Use the version that trained it, or train again."
        ) from error
    return Artifact(directory, config, *found)


def in_float32(artifact: Artifact) -> Artifact:
    """The artifact with its precision set to float32: explanations use it, because bf16 and fp16 would blur their gradients.

    >>> config = ArtifactConfig(name="tile", precision="bf16")
    >>> in_float32(Artifact(Path("tile"), config, model_digest="", calibration_digest=None)).config.precision
    'float32'
    """
    return replace(artifact, config=artifact.config.model_copy(update={"precision": "float32"}))


def check(artifact: Artifact) -> None:
    """Raises ArtifactError when this installation cannot load the artifact, OutsideArithmetic for such an environment.

    An artifact trained with the installed version of timm is taken to load; any other is loaded to find out.

    >>> trained = {"versions": {"timm": version("timm")}}
    >>> check(Artifact(Path("tile"), ArtifactConfig(name="tile", trained=trained), model_digest="", calibration_digest=None))
    """
    check_environment()
    if not _of_this_timm(artifact.config):
        load(artifact)
    try:
        registry.check(artifact.config.detector)
    except ValueError as error:
        raise _not_of_this_version(artifact, error) from error


def load(artifact: Artifact, device: str = "cpu") -> "Detector":
    """The detector with the artifact's weights, frozen for scoring on the device. Another timm than that which trained it runs
    the network, and must find the stored structure.

    >>> config = ArtifactConfig(name="tile", detector="patchsvdd", hyperparameters={"bank_size": 8})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     artifact = save(Path(folder) / "tile", config, registry.build(config), card="# tile")
    ...     load(artifact).training
    False
    """
    from safetensors.torch import load_file

    from models.backbones.undrawn import weights_follow

    set_arithmetic()
    config = artifact.config
    known = config.backbone and config.backbone.structure
    update = {"weights": "none"} if _of_this_timm(config) else {"weights": "none", "structure": None}
    offline = config.backbone and config.backbone.model_copy(update=update)
    try:
        if offline:
            check_known(offline.name)
        with weights_follow():
            detector = registry.build(config.model_copy(update={"backbone": offline}))
        if known and "structure" in update and detector.config.backbone.structure != known:  # type: ignore[union-attr]
            raise ValueError(f"timm {version('timm')} builds another network than backbone.structure says.")
    except ValueError as error:
        raise _not_of_this_version(artifact, error) from error
    path = artifact.directory / WEIGHTS
    try:
        detector.load_state_dict(load_file(path), strict=True)
    except (RuntimeError, SafetensorError) as error:
        raise ArtifactError(
            f"{path} must hold the weights that {CONFIG} describes; {error}. Use the versions of flowscore and timm that "
            "trained it (config.json: trained), or train again."
        ) from error
    return detector.to(device).freeze()


def _of_this_timm(config: ArtifactConfig) -> bool:
    versions = config.trained.get("versions")
    return isinstance(versions, dict) and versions.get("timm") == version("timm")


def _not_of_this_version(artifact: Artifact, error: ValueError) -> ArtifactError:
    return ArtifactError(
        f"{artifact.directory / CONFIG} must describe a detector of this version of flowscore; {error} "
        "Use the version that trained it, or train again."
    )


def _file_digest(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError as error:
        raise ArtifactError(f"{path} must be there; it is missing. Restore the artifact or train again.") from error


def _json(directory: Path, name: str) -> Any:
    path = directory / name
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise ArtifactError(
            f"{path} must be there; it is missing. Check that {directory} is an artifact that was copied whole."
        ) from error
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{path} must be JSON; {error}. Restore the artifact or train again.") from error
