"""The functions of `import flowscore`: the commands' work in this process, with errors that are one sentence."""

import contextlib
import os
import sys
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jobs.command import config
from models.explain.methods import Method
from pipeline.input import registry
from pipeline.input.encoded_rows import Fault
from pipeline.session import Explanation, Images, ImageScores, ImagesError, Model, as_list, encoded_image
from pipeline.tables.query import Tables, open_tables


def load(uri: str | os.PathLike[str], device: str = "auto") -> Model:
    """A trained model from a folder or s3://bucket/prefix.

    >>> load("model").score(["bad.png"]).anomaly_map[0].shape
    (16, 16)
    """
    return Model(uri, device)


def fit(detector: str, images: Images, model_out: str | os.PathLike[str] | None = None, **settings: Any) -> Model:
    """A model fitted to good images; training prints to stderr.

    Args:
        model_out: folder or s3:// for the model; None keeps it as long as the Model lives.
        settings: any setting of `flowscore train`, named as in its --config file.
    Raises:
        UsageError, ConfigError: a setting cannot work.  ImagesError.  ErrorShareError: too many images are unreadable.

    >>> model = fit("padim", "good", backbone="test_resnet", weights="none", image_size=64)
    >>> model.artifact.config.detector
    'padim'
    """
    from jobs.settings.training import TrainSettings
    from jobs.train import train  # torch and timm take seconds to load, which the other entries save

    kept = None
    if model_out is None:
        kept = tempfile.TemporaryDirectory(prefix="flowscore-fitted-")
        model_out = Path(kept.name) / "model"
    with _folder(images) as folder, contextlib.redirect_stdout(sys.stderr):
        train(config.load(TrainSettings, None, detector=detector, input=folder, model_out=os.fspath(model_out), **settings))
    model = Model(model_out, settings.get("device", "auto"))
    if kept is not None:
        weakref.finalize(model, kept.cleanup)
    return model


def score(model: Model | str | os.PathLike[str], images: Images) -> ImageScores:
    """Scores and anomaly maps of images.

    >>> scores = score("model", ["good/0.png", "bad.png"])
    >>> bool(scores.score[0] < scores.score[1])
    True
    """
    return _model(model).score(images)


def explain(model: Model | str | os.PathLike[str], images: Images, method: Method = "gradient") -> list[Explanation]:
    """How much every pixel matters for its image's score.

    >>> explain("model", "bad.png")[0].relevance.shape
    (64, 64)
    """
    return _model(model).explain(images, method)


def tables(output: str | os.PathLike[str]) -> Tables:
    """The tables that `flowscore score` has published, by name: scores, maps, regions, errors, lots, drift, decisions and runs.

    Each is a DuckDB relation, which reads nothing until `.df()` (pandas), `.arrow()` or the like asks for rows.

    >>> tables("results")["scores"].filter("line = '3'").aggregate("count(*), max(score) > 0").fetchall()
    [(3, True)]
    """
    return open_tables(os.fspath(output))


def _model(model: Model | str | os.PathLike[str]) -> Model:
    return model if isinstance(model, Model) else Model(model)


@contextlib.contextmanager
def _folder(images: Images) -> Iterator[str]:
    """The place that training reads: the folder itself, or a scratch folder with the listed images."""
    listed = as_list(images)
    if listed is None:
        yield os.fspath(images)  # type: ignore[arg-type]  # as_list says that it is a path
        return
    with tempfile.TemporaryDirectory(prefix="flowscore-images-") as folder:
        for number, image in enumerate(listed):
            name, content = encoded_image(image, number)
            if isinstance(content, Fault):
                raise ImagesError(f"images must be files that can be read; {content.message}. Leave it out of the list.")
            suffix = Path(name).suffix if registry.claiming(Path(name).name) == registry.LAST else ".png"
            (Path(folder) / f"{number:08d}{suffix}").write_bytes(content)
        yield folder
