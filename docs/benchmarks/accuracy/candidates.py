"""Compare settings of detectors without test labels, on good magnetic tiles and synthetic defects made of them.

    python docs/benchmarks/accuracy/candidates.py FOLDER CANDIDATES.yaml [--wide] [NAME ...]

train/good is split by tile into images to fit, 151 images of other tiles, and 90 images whose tiles are fitted too: the
second set tells how a setting does on new pieces, the third imitates the published split. Six families of synthetic
defects are drawn once on both, at 512 x 512 pixels, their severity set by a Gaussian on CS-Flow's full-size features, so
that all candidates, whatever their size, meet the same defects; --wide takes the families of wide_defects.py. A candidate is
fitted once; the criterion (the mean logit-AUROC over families, models/fitting/selection.py) is printed for both sets after some
epochs, for the detector's score and for two that are read off its map: the mean of the highest 4 % of the cells, and the
highest. A YAML entry:

    NAME: {detector: csflow, size: 256, taps: [blocks.3], flips: [h], hyperparameters: {}, training: {}, every: 4, seed: 0}

All but `detector` may be left out. Images and features are kept in FOLDER, one for either kind. Needs FLOWSCORE_ASSETS.
"""

import argparse
import csv
import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import wide_defects  # beside this file
import yaml
from torch import Tensor

from models import registry
from models.backbones.backbone import BackboneConfig
from models.config import ArtifactConfig, InputConfig
from models.detector import Detector, FitRun
from models.features.whitening import LevelWhitening, Moments
from models.fitting import synthetic
from models.fitting.selection import Criterion, ExamScores, choose_severity
from models.maps.scores import top_mean
from pipeline.decode.config import DecodeConfig
from pipeline.decode.image import decode_image

SIDE = 512  # pixels at which defects are drawn
OTHER_IMAGES, SEEN_IMAGES = 150, 90
SELECTIONS = ("other", "seen")
SETS = ["fit", *(f"{selection}{family}" for selection in SELECTIONS for family in ("", *(f"-{x}" for x in synthetic.FAMILIES)))]
TOP_SHARE = 0.04
BATCH = 16


def draw(folder: Path, families: Mapping[str, synthetic.Family]) -> None:
    """Write the pixels of every set as FOLDER/images/SET.npy, (N, 512, 512, 3) uint8."""
    if (folder / "images.json").is_file():
        return
    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    root = Path(os.environ["FLOWSCORE_ASSETS"]) / "assets" / "mtd"
    with open(root / "tiles.csv", newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["path"].startswith("train/good")]
    count = {tile: sum(row["tile"] == tile for row in rows) for tile in sorted({row["tile"] for row in rows}, key=int)}
    random = np.random.default_rng(0)
    tiles = list(count)
    random.shuffle(tiles)
    others: set[str] = set()
    for tile in tiles:
        if sum(count[other] for other in others) < OTHER_IMAGES:
            others.add(tile)
    rest = [i for i, row in enumerate(rows) if row["tile"] not in others]
    seen = sorted(random.choice([i for i in rest if count[rows[i]["tile"]] > 1], SEEN_IMAGES, replace=False).tolist())
    decode = DecodeConfig(height=SIDE, width=SIDE, resize="squash")
    pixels = np.stack([np.array(decode_image((root / row["path"]).read_bytes(), decode).pixels) for row in rows])
    fitted = np.array([i for i in rest if i not in set(seen)])
    np.save(images / "fit.npy", pixels[fitted])
    other = np.array([i for i, row in enumerate(rows) if row["tile"] in others])
    score = _gaussian(pixels[fitted[::2]])
    few = pixels[other[::3]]
    good = score(few)
    severities = {}
    for family in families:

        def of_severity(severity: float, family: str = family) -> np.ndarray:
            return score(synthetic.make(family, few, severity, 0, families))

        severities[family] = choose_severity(family, of_severity, good)
    for name, chosen in (("other", other), ("seen", np.array(seen))):
        np.save(images / f"{name}.npy", pixels[chosen])
        for family, severity in severities.items():
            np.save(images / f"{name}-{family}.npy", synthetic.make(family, pixels[chosen], severity, 1, families))
    (folder / "images.json").write_text(json.dumps({"severities": severities}), encoding="utf-8")


def _gaussian(goods: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Mean squared Mahalanobis distance of the cells of CS-Flow's full-size features, 128 components."""
    detector = registry.build(_config({"detector": "csflow", "hyperparameters": {"scales": 1}, "taps": ["blocks.3"]}))

    def features(pixels: np.ndarray) -> Tensor:
        return torch.cat([detector.extract(batch)[0] for batch in resized(pixels, detector).split(BATCH)])

    cells = features(goods)
    moments, whitening = Moments(cells.shape[1]), LevelWhitening([cells.shape[1]], 128)
    moments.update(cells)
    whitening.fit([moments])
    return lambda pixels: whitening([features(pixels)])[0].square().mean((1, 2, 3)).numpy()


def _config(entry: dict[str, Any]) -> ArtifactConfig:
    size = entry.get("size", 256)
    return ArtifactConfig(
        name="candidate",
        detector=entry["detector"],
        precision=entry.get("precision", "bf16"),
        input=InputConfig(height=size, width=size),
        backbone=BackboneConfig(taps=tuple(entry["taps"])) if "taps" in entry else BackboneConfig(),
        hyperparameters=entry.get("hyperparameters", {}),
    )


def resized(pixels: np.ndarray, detector: Detector) -> Tensor:
    """(N, 512, 512, 3) uint8 to the detector's input size, by area."""
    size = (detector.config.input.height, detector.config.input.width)
    planes = torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).float()  # (N, 3, 512, 512)
    small = F.interpolate(planes, size=size, mode="area") if size != planes.shape[2:] else planes
    return small.round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()  # (N, H, W, 3)


class Kept:
    """Features of all sets, one after another, on disk; candidates that read the same ones share them."""

    def __init__(self, detector: Detector, entry: dict[str, Any], folder: Path):
        about = [detector.config.model_dump_json(exclude={"detector", "batch_size"}), entry["detector"], entry.get("flips", [])]
        directory = folder / "features" / hashlib.sha256(json.dumps(about).encode()).hexdigest()[:16]
        flips = {"": (), "h": (2,), "v": (1,), "hv": (1, 2)}
        self.positions: dict[str, Tensor] = {}
        sources = []
        count = 0
        for name in SETS:
            pixels = np.load(folder / "images" / f"{name}.npy", mmap_mode="r")
            ways = ["", *entry.get("flips", [])] if name == "fit" else [""]
            sources += [(pixels, flips[way]) for way in ways]
            self.positions[name] = torch.arange(count, count + len(ways) * len(pixels))
            count += len(ways) * len(pixels)
        if not (directory / "complete").is_file():
            directory.mkdir(parents=True, exist_ok=True)
            self._extract(detector, sources, directory, count)
        self.levels = [np.load(path, mmap_mode="r") for path in sorted(directory.glob("level*.npy"))]

    def _extract(self, detector: Detector, sources: list[Any], directory: Path, count: int) -> None:
        files: list[np.memmap] = []
        done = 0
        for pixels, axes in sources:
            for start in range(0, len(pixels), BATCH):
                maps = detector.extract(resized(np.flip(pixels[start : start + BATCH], axes), detector))
                stored = [x.numpy() if x.dtype == torch.uint8 else x.half().numpy() for x in maps]
                for level, x in enumerate(stored[len(files) :], len(files)):
                    path = directory / f"level{level}.npy"
                    files.append(np.lib.format.open_memmap(path, "w+", x.dtype, (count, *x.shape[1:])))
                for file, x in zip(files, stored, strict=True):
                    file[done : done + len(x)] = x
                done += len(stored[0])
        for file in files:
            file.flush()
        (directory / "complete").touch()

    def read(self, positions: Tensor) -> list[Tensor]:
        rows = [torch.from_numpy(level[positions.numpy()]) for level in self.levels]
        return [x.float() if x.is_floating_point() else x for x in rows]


@torch.inference_mode()
def criteria(detector: Detector, features: Kept) -> dict[str, Criterion]:
    """By score and selection."""
    by_kind: dict[str, dict[str, np.ndarray]] = {"score": {}, "top": {}, "max": {}}
    for name in SETS[1:]:
        results = [detector.score_features(features.read(batch)) for batch in features.positions[name].split(BATCH)]
        maps = torch.cat([result.anomaly_map for result in results])
        by_kind["score"][name] = torch.cat([result.score for result in results]).numpy()
        by_kind["top"][name] = top_mean(maps, TOP_SHARE).numpy()
        by_kind["max"][name] = maps.amax(dim=(1, 2)).numpy()
    found = {}
    for kind, scores in by_kind.items():
        for selection in SELECTIONS:
            defects = {family: scores[f"{selection}-{family}"] for family in synthetic.FAMILIES}
            found[f"{kind} {selection}"] = ExamScores(scores[selection], defects).criterion()
    return found


def examine(name: str, entry: dict[str, Any], folder: Path) -> None:
    detector = registry.build(_config(entry))
    features = Kept(detector, entry, folder)
    started = time.monotonic()
    every = entry.get("every", 4)

    def say(when: str) -> None:
        cells = []
        for label, found in criteria(detector, features).items():
            families = " ".join(f"{100 * value:.0f}" for value in found.families.values()) if "score" in label else ""
            cells.append(f"{label} {found.value:.2f} {families}".strip())
        print(f"{name}  {when}  {time.monotonic() - started:.0f} s  {' | '.join(cells)}", flush=True)

    def after_epoch(epoch: int) -> bool:
        if (epoch + 1) % every == 0:
            say(f"epoch {epoch + 1}")
        return False

    run = FitRun(detector.Training(**entry.get("training", {})), entry.get("seed", 0), after_epoch=after_epoch)
    detector.fit(features, features.positions["fit"], run)
    say("end")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("candidates", type=Path)
    parser.add_argument("name", nargs="*")
    parser.add_argument("--wide", action="store_true", help="defects of all sizes")
    asked = parser.parse_args()
    entries = yaml.safe_load(asked.candidates.read_text(encoding="utf-8"))
    folder = asked.folder / ("wide" if asked.wide else "usual")
    draw(folder, wide_defects.FAMILIES if asked.wide else synthetic.FAMILIES)
    for name in asked.name or entries:
        examine(name, entries[name], folder)


if __name__ == "__main__":
    main()
