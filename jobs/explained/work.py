"""Explains one image after another by every method that the detector has, and puts each map to the deletion test."""

import re
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from jobs.command.progress import Progress
from jobs.explained.asked import Asked
from jobs.explained.words import NOTICES, advice, figures
from jobs.pages.explanation_page import ShownImage, ShownMap
from jobs.pages.explanation_pictures import ExplanationPictures
from models import artifact
from models.artifact import Artifact
from models.detector import Detector
from models.explain.deletion import compare, scored_images
from models.explain.deletion_config import DeletionConfig
from models.explain.explainer import Explainer, ExplanationError
from models.explain.methods import METHODS, Method
from models.explain.trust import Standing, most_trusted_first, trust
from models.maps.grids import resized
from pipeline.scoring.worst_tile import Tiles

ANOMALY_MAP = "anomaly_map"  # the detector's own map gets the same pictures and the same test


@dataclass(frozen=True)
class Explained:
    """One map of one image, as explanations.json lists it. deletion_auc: lower is more faithful.  random_auc: the mean of the
    same for random orders, which are the map at other places.  slower_orders: those of the `random_orders` in which the score
    falls more slowly.  trust: models/explain/trust.py.  The figures are null if the test says nothing."""

    method: str
    layer: str | None
    picture: str
    trust: Standing
    deletion_auc: float | None
    random_auc: float | None
    slower_orders: int | None
    random_orders: int | None


@dataclass(frozen=True)
class ExplainedImage:
    """One image as explanations.json lists it. score_deleted: with all of it replaced by the `filling`. maps: the most trusted
    first.  image_id, published_score: as in the tables, null for an image of --input."""

    image: str
    tile: tuple[int, int] | None
    score: float | None
    score_deleted: float | None
    filling: str | None
    maps: tuple[Explained, ...]
    image_id: str | None
    published_score: float | None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class Work:
    """The loaded detector with the methods that are defined for it.

    shown: what the page says of each image so far.  tested_s: seconds spent on deletion tests.
    """

    def __init__(
        self,
        opened: Artifact,
        method: Method | str,
        layer: str | None,
        deletion: DeletionConfig,
        device: str,
        good: Sequence[np.ndarray],
    ) -> None:
        """Args:
        method: one, or `all`.  good: decoded good images, (H, W, 3) uint8.
        Raises:
            ExplanationError: no method is defined for the detector.
        """
        if opened.config.precision != "float32":
            print(f"the model scores in {opened.config.precision}; explanations and their scores are computed in float32")
            opened = artifact.in_float32(opened)
        self._deletion, self._device = deletion, device
        self._detector: Detector = artifact.load(opened, device)
        self._tiles, size = Tiles(self._detector, device), opened.config.input
        middles = [self._tiles.middle(each).pixels for each in good]
        self._good = self._detector.prepare(torch.from_numpy(np.stack(middles)).to(device)) if good else None
        self._explainer = Explainer(self._detector, layer)
        chosen = METHODS if method == "all" else tuple(each for each in METHODS if each == method)
        blank = torch.zeros(size.height, size.width, 3, dtype=torch.uint8, device=device)
        self.layer = self._explainer.layer
        self.not_defined = {str(each): fault for each, fault in self._explainer.check(blank, chosen).items()}
        self._methods = [each for each in chosen if each not in self.not_defined]
        self.shown: list[ShownImage] = []
        self.tested_s = 0.0
        if not self._methods:
            raise ExplanationError(next(iter(self.not_defined.values())))
        for left_out, fault in self.not_defined.items():
            print(f"{left_out} left out: {fault}")

    @property
    def cost(self) -> str:
        """What the deletion test takes, in words."""
        maps = len(self._methods) + 1
        images = scored_images(maps, 0 if self._good is None else len(self._good), self._deletion)
        return (
            f"the deletion test scores each image {images} more times: {maps} maps, each at its place and "
            f"{self._deletion.random_orders} random ones, in {self._deletion.steps} steps"
        )

    def image(self, asked: Asked, pixels: np.ndarray, pictures: ExplanationPictures, place: str) -> ExplainedImage:
        """Explain one image, (H, W, 3) uint8, or its worst tile; adds its pictures and prints a line for each.

        Args:
            place: where the pictures will be, for the lines.
        """
        pixels, left, top = self._tiles.worst(pixels)
        tile = (left, top) if self._tiles.tiling is not None else None
        name = asked.name + (f" tile at {left},{top}" if tile else "")
        image = torch.tensor(pixels)[None].to(self._device)
        inputs = self._detector.prepare(image)
        with torch.no_grad():
            scored = self._detector.score_features(self._detector.features(inputs))
        score = float(scored.score)
        if not torch.isfinite(scored.score).all():
            print(f"{name}  score {score}: not a finite number, so there is nothing to explain")
            return ExplainedImage(asked.name, tile, None, None, None, (), asked.image_id, asked.published)
        in_words = f"score {score:.4g}" + ("" if asked.published is None else f" ({asked.published:.4g} in the tables)")
        cells = self._detector.shown(scored.anomaly_map)
        maps: dict[str, Tensor] = {ANOMALY_MAP: resized(cells, inputs.shape[2:])[0]}  # (H, W) each
        with Progress(f"explaining {name}", total=None) as progress:
            for defined in self._methods:
                progress.note(defined)
                maps[defined] = self._explainer(image, defined)[0]
        for method in [method for method, found in maps.items() if not bool(torch.isfinite(found).all())]:
            print(f"{name}  {in_words}  {method} left out: the map is not finite everywhere")
            del maps[method]
        started = time.monotonic()
        with Progress(f"explaining {name}", total=None) as progress:
            progress.note("deletion test")
            filled, tested, orders = compare(self._score, inputs[0], maps, self._deletion, self._good)
        self.tested_s += time.monotonic() - started
        number, explained, shown = len(self.shown), [], []
        for method in most_trusted_first(tested, orders):
            area, random = tested[method], orders[method]
            standing = trust(area, random)
            layer = self.layer if method.endswith("grad_cam") else None
            picture = f"{number:03d}-{re.sub(r'[^A-Za-z0-9._-]+', '_', name)[-120:]}.{method}.png"
            said = figures(area, random, standing, self._good is not None)
            title = [f"{name}   {in_words}", f"{method}{f' of {layer}' if layer else ''}", said]
            relevance = maps[method].float().cpu().numpy()
            pictures.add(method, picture, pixels, relevance, title, NOTICES[standing.standing])
            known = area is not None and random is not None
            explained.append(
                Explained(
                    method,
                    layer,
                    picture,
                    standing.standing,
                    area.auc if area else None,
                    random.auc if random else None,
                    standing.slower if known else None,
                    standing.orders if known else None,
                )
            )
            shown.append(ShownMap(method, picture, standing.standing, said))
            print(f"{name}  {in_words}  {method}: {said}  {place.rstrip('/')}/{picture}", flush=True)
        to_trust = advice([(each.method, each.standing) for each in shown])
        print(f"{name}  {to_trust}", flush=True)
        self.shown.append(ShownImage(name, in_words, to_trust, shown))
        return ExplainedImage(
            asked.name, tile, score, filled.filled, filled.name, tuple(explained), asked.image_id, asked.published
        )

    def _score(self, inputs: Tensor) -> Tensor:
        return self._detector.score_features(self._detector.features(inputs)).score
