"""The detectors: every file of models/detectors is one, and its name is the file's."""

import difflib
import importlib
import pkgutil
from typing import TYPE_CHECKING

from models import detectors
from models.arithmetic import set_arithmetic
from models.config import ArtifactConfig

if TYPE_CHECKING:
    from models.detector import Detector


def names() -> list[str]:
    """The names of all detectors, sorted.

    >>> names()
    ['cflow', 'csflow', 'differnet', 'ensemble', 'fastflow', 'padim', 'patchcore', 'patchsvdd']
    """
    return sorted(module.name for module in pkgutil.iter_modules(detectors.__path__))


def check(detector: str) -> None:
    """Raises ValueError unless the detector exists; its file is not imported.

    >>> check("padim")  # raises nothing: it exists
    """
    if detector not in names():
        near = difflib.get_close_matches(detector, names(), n=1)
        fix = f"Did you mean {near[0]!r}?" if near else "Choose one of them."
        raise ValueError(f"detector must be one of {', '.join(names())}; got {detector!r}. {fix}")


def build(config: ArtifactConfig) -> "Detector":
    """A detector with random or downloaded backbone weights and an untrained head; imports only the chosen file.

    It sets the arithmetic of this process (models/arithmetic.py).

    >>> build(ArtifactConfig(name="tile", detector="patchsvdd", hyperparameters={"bank_size": 8})).config.map_height
    16
    """
    check(config.detector)
    set_arithmetic()
    built: Detector = importlib.import_module(f"{detectors.__name__}.{config.detector}").build(config)
    for name, asked, there in (
        ("roi", config.input.roi is not None, built.fill is not None),
        ("shading_correction", config.input.shading_correction, built.shading is not None),
    ):
        if asked and not there:
            raise ValueError(
                f"{name} must be left out for the detector {config.detector}, which does not call `Detector.see` and so reads "
                "images as they are. Choose another detector."
            )
    return built
