"""Show by gradients which places of an image its score comes from, and test how faithful each map is."""

import json
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from jobs.command.entry import run
from jobs.command.errors import UsageError
from jobs.command.flags import Flag
from jobs.command.places import check_folder
from jobs.images.folder_walk import walked
from models import artifact
from models.artifact import Artifact
from models.explain.deletion_config import DeletionConfig
from models.explain.methods import METHODS, Method
from pipeline.decode.config import DecodeConfig
from pipeline.decode.faults import Undecodable
from pipeline.input.keys import ignored
from pipeline.scoring.device import DeviceSetting, resolve_device
from pipeline.storage.copies import local_copy

if TYPE_CHECKING:  # torch, captum and matplotlib take seconds to load, so a wrong setting is answered before
    from torch import Tensor

    from jobs.pages.explanation_pictures import ExplanationPictures
    from models.detector import Detector
    from models.explain.deletion import Deletion

ANOMALY_MAP = "anomaly_map"  # the detector's own map gets the same pictures and the same test
GOODS = 8  # good images at most; an image that is scored by tiles gives its middle tile
JSON_NAME = "explanations.json"
DELETION_AUC = "area under the normalised score while the most relevant places go first; lower is more faithful"


class ExplainSettings(BaseModel):
    """Settings of `flowscore explain`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: Flag[str] = Field(description="the model: a folder or s3://bucket/prefix")
    input: Flag[Path] = Field(description="an image, or a folder of them")
    output: Flag[Path] = Field(description="folder for the pictures and explanations.json")
    method: Flag[Literal[Method, "all"]] = Field("all", description="how places are found")
    layer: Flag[str | None] = Field(None, description="layer of the backbone for Grad-CAM; default: the deepest tap")
    limit: Flag[int] = Field(16, ge=1, description="images of a folder at most, the first by name")
    good: Flag[Path | None] = Field(
        None, description=f"good image, or folder of them (the first {GOODS}), that fills deleted places in the test"
    )
    device: Flag[DeviceSetting] = Field("auto", description="where the model computes")
    cache_dir: Path = Field(Path("~/.cache/flowscore"), description="folder that a remote model is copied to")
    deletion: DeletionConfig = Field(DeletionConfig(), description="the deletion test")


@dataclass(frozen=True)
class Explained:
    """One map of one image, as explanations.json lists it. deletion_auc: lower is more faithful.  random_auc: the same for a
    random order; both are null if the test says nothing."""

    method: str
    layer: str | None
    picture: str
    deletion_auc: float | None
    random_auc: float | None


def explain(settings: ExplainSettings) -> dict[str, Any]:
    """Explain every image, print a line for each map, write the pictures and the JSON, and return the JSON's content.

    If the model scores by tiles, an image's worst tile is explained, since the image's score is that tile's.
    """
    check_folder("--output", settings.output)
    paths, good_paths = _images("--input", settings.input), _images("--good", settings.good) if settings.good else []
    if len(paths) > settings.limit:
        print(f"{len(paths)} files; the first {settings.limit} by name are explained (--limit)")
    opened = artifact.read(local_copy(settings.model, settings.cache_dir.expanduser()))
    decode = DecodeConfig.of(opened.config.input)

    from jobs.pages.explanation_pictures import ExplanationPictures
    from pipeline.report.calibrated_scale import calibrated_scale

    images, unreadable = _decoded("--input", paths[: settings.limit], decode, settings.input)
    good = _decoded("--good", good_paths[:GOODS], decode, settings.good)[0] if settings.good else []
    calibrated = calibrated_scale(os.fspath(opened.directory), opened.model_digest)
    work = _Work(opened, settings, [pixels for _, pixels in good])
    settings.output.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="flowscore-explain-") as scratch:
        known = {} if calibrated is None else {ANOMALY_MAP: calibrated}
        pictures = ExplanationPictures(settings.output, Path(scratch), known)
        explained = [work.image(number, name, image, pictures) for number, (name, image) in enumerate(images)]
        scales = pictures.draw()
    for method, scale in scales.items():
        print(f"{method}: one colour scale for all pictures, {scale.low:.3g} to {scale.high:.3g}, {scale.basis}")
    report = {
        "model": opened.config.name,
        "model_digest": opened.model_digest,
        "layer": work.explainer.layer,
        "not_defined": work.not_defined,
        "deletion": {"meaning": DELETION_AUC, **settings.deletion.model_dump(mode="json")},
        "colours": {method: asdict(scale) for method, scale in scales.items()},
        "unreadable": unreadable,
        "images": explained,
    }
    document = json.dumps(report, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    (settings.output / JSON_NAME).write_text(document, encoding="utf-8")
    return report


class _Work:
    """The loaded detector with the methods that are defined for it."""

    def __init__(self, opened: Artifact, settings: ExplainSettings, good: list[np.ndarray]):
        import torch

        from models.explain.explainer import Explainer, ExplanationError
        from pipeline.scoring.worst_tile import Tiles

        if opened.config.precision != "float32":
            print(f"the model scores in {opened.config.precision}; explanations and their scores are computed in float32")
            opened = artifact.in_float32(opened)
        self.settings, self.device = settings, resolve_device(settings.device)
        self.detector: Detector = artifact.load(opened, self.device)
        self.tiles, size = Tiles(self.detector, self.device), opened.config.input
        middles = [self.tiles.middle(each).pixels for each in good]
        self.good = self.detector.prepare(torch.from_numpy(np.stack(middles)).to(self.device)) if good else None
        self.explainer = Explainer(self.detector, settings.layer)
        chosen = METHODS if settings.method == "all" else (settings.method,)
        blank = torch.zeros(size.height, size.width, 3, dtype=torch.uint8, device=self.device)
        self.not_defined = {str(method): fault for method, fault in self.explainer.check(blank, chosen).items()}
        self.methods = [method for method in chosen if method not in self.not_defined]
        if not self.methods:
            raise ExplanationError(next(iter(self.not_defined.values())))
        for method, fault in self.not_defined.items():
            print(f"{method} left out: {fault}")

    def image(self, number: int, name: str, pixels: np.ndarray, pictures: "ExplanationPictures") -> dict[str, Any]:
        """Explain one image, (H, W, 3) uint8, or its worst tile; returns its entry in the JSON."""
        import torch

        from models.explain.deletion import compare
        from models.maps.grids import resized

        pixels, left, top = self.tiles.worst(pixels)
        tiled = self.tiles.tiling is not None
        about = {"image": name, "tile": [left, top] if tiled else None}
        name += f" tile at {left},{top}" if tiled else ""
        image = torch.tensor(pixels)[None].to(self.device)
        inputs = self.detector.prepare(image)
        with torch.no_grad():
            scored = self.detector.score_features(self.detector.features(inputs))
        score = float(scored.score)
        if not torch.isfinite(scored.score).all():
            print(f"{name}  score {score}: not a finite number, so there is nothing to explain")
            return {**about, "score": None, "score_deleted": None, "filling": None, "maps": []}
        maps: dict[str, Tensor] = {ANOMALY_MAP: resized(scored.anomaly_map, inputs.shape[2:])[0]}  # (H, W) each
        maps |= {method: self.explainer(image, method)[0] for method in self.methods}
        for method in [method for method, found in maps.items() if not bool(torch.isfinite(found).all())]:
            print(f"{name}  score {score:.4g}  {method} left out: the map is not finite everywhere")
            del maps[method]
        filled, tested, random = compare(self._score, inputs[0], maps, self.settings.deletion, self.good)
        explained = []
        for method, found in maps.items():
            layer = self.explainer.layer if method.endswith("grad_cam") else None
            picture = f"{number:03d}-{re.sub(r'[^A-Za-z0-9._-]+', '_', name)}.{method}.png"
            title = [f"{name}   score {score:.4g}", f"{method}{f' of {layer}' if layer else ''}"]
            title.append(_figures(tested[method], random, self.good is not None))
            pictures.add(method, picture, pixels, found.float().cpu().numpy(), title)
            areas = [each.auc if each else None for each in (tested[method], random)]
            explained.append(Explained(method, layer, picture, *areas))
            print(f"{name}  score {score:.4g}  {method}: {title[-1]}  {self.settings.output / picture}", flush=True)
        return {
            **about,
            "score": score,
            "score_deleted": filled.filled,
            "filling": filled.name,
            "maps": [asdict(each) for each in explained],
        }

    def _score(self, inputs: "Tensor") -> "Tensor":
        return self.detector.score_features(self.detector.features(inputs)).score


def _figures(found: "Deletion | None", random: "Deletion | None", with_good: bool) -> str:
    if found is None or random is None:
        advice = "" if with_good else "; good images (--good) make a better filling"
        return f"no deletion test, because no filling scores below the image{advice}"
    return f"deletion AUC {found.auc:.3f} (random order {random.auc:.3f}; lower is more faithful)"


def _images(flag: str, root: Path) -> list[Path]:
    """The file, or every file below the folder, by name."""
    if root.is_file():
        return [root]
    if not root.is_dir():
        raise UsageError(flag, "an image or a folder of images", str(root), "Check the path.")
    paths = (os.fsdecode(path) for path in walked(root, flag))
    found = sorted(root / path for path in paths if (root / path).is_file() and not ignored(path))
    if not found:
        raise UsageError(flag, "an image or a folder of images", str(root), "It holds no images.")
    return found


def _decoded(
    flag: str, paths: list[Path], decode: DecodeConfig, root: Path
) -> tuple[list[tuple[str, np.ndarray]], dict[str, str]]:
    """Names below the root with pixels, (H, W, 3) uint8, and the fault of each image that could not be read.

    The pixels have the input's size, or the image's own if it is scored by tiles.
    """
    from pipeline.decode.image import decode_image

    images, unreadable = [], {}
    for path in paths:
        name = path.name if path == root else path.relative_to(root).as_posix()
        try:
            images.append((name, np.array(decode_image(path.read_bytes(), decode).pixels)))
        except (Undecodable, OSError) as fault:
            unreadable[name] = str(fault)
            print(f"{name} left out: {fault}")
    if not images:
        name, why = next(iter(unreadable.items()))
        raise UsageError(flag, "an image or a folder of images that can be read", name, f"The first fault: {why}.")
    return images, unreadable


def main(settings: ExplainSettings) -> None:
    """Show by gradients which places of an image its score comes from, and test how faithful each map is."""
    explain(settings)


if __name__ == "__main__":
    run(main)
