"""anomalib's PaDiM on the MobileNetV1 file: fitted, scored and timed by `Engine.predict`. Run by an interpreter with anomalib.

    python theirs.py FOLDER

FOLDER is the one that ours.py has prepared: `few`, `first` and `distinct` hold pictures, `train.npy` and `distinct.npy` the
product's pixels. The model is fitted to those. Writes `theirs.safetensors` (its channels), `theirs.csv` (a score a picture of
`distinct`) and `theirs-same-pixels.csv`, and prints lines of JSON with pictures a second of `predict` alone, files to
predictions: every setting on `first`, the best of them on `distinct`, and the default on `distinct`, which is
`predict(data_path=...)` with everything as it comes and also draws a picture of each result. `model_alone` is its torch model
on a batch in memory with the best setting's batch size and precision. The backbone's weights are those of FLOWSCORE_ASSETS.
"""

import csv
import json
import logging
import os
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import timm
import torch
from anomalib.data import PredictDataset
from anomalib.engine import Engine
from anomalib.models import Padim
from anomalib.pre_processing import PreProcessor
from safetensors.torch import load_file, save_file
from torch.utils.data import DataLoader
from torchvision.transforms.v2 import Compose, Normalize, Resize

THREADS, SIZE, DIMS = 2, 256, 100
ALONE_S = 15
LAYERS = ["blocks.1", "blocks.2", "blocks.3"]
WEIGHTS = "assets/weights/mobilenetv1_100_imagenet.safetensors"
SETTINGS = [(batch, workers, precision) for batch in (1, 16, 32) for workers in (0, 1) for precision in ("32", "bf16-mixed")]


def model(visualizer: bool) -> Padim:
    transform = Compose([Resize((SIZE, SIZE), antialias=True), Normalize([0.5] * 3, [0.5] * 3)])
    torch.manual_seed(0)
    made = Padim(
        backbone="mobilenetv1_100",
        layers=LAYERS,
        n_features=DIMS,
        pre_trained=False,
        pre_processor=PreProcessor(transform=transform),
        visualizer=visualizer,
        evaluator=False,
    )
    extractor = made.model.feature_extractor
    old = extractor.feature_extractor
    network = timm.create_model(
        "mobilenetv1_100",
        pretrained=False,
        features_only=True,
        out_indices=list(old.feature_info.out_indices),
        pad_type="same",
        bn_eps=1e-3,
        act_layer="relu6",
    )
    missing = network.load_state_dict(load_file(Path(os.environ["FLOWSCORE_ASSETS"]) / WEIGHTS), strict=False).missing_keys
    assert not [name for name in missing if not name.startswith(("blocks.4", "blocks.5", "blocks.6"))], missing
    extractor.feature_extractor = network.eval()
    return made


def batches(folder: Path, size: int, workers: int) -> DataLoader:
    pictures = PredictDataset(path=folder)
    return DataLoader(pictures, batch_size=size, num_workers=workers, collate_fn=pictures.collate_fn)


def engine(folder: Path, precision: str = "32") -> Engine:
    return Engine(logger=False, precision=precision, enable_progress_bar=False, default_root_dir=folder / "anomalib")


def pixels(folder: Path, name: str) -> tuple[torch.Tensor, ...]:
    """The product's pixels in batches (16, 3, SIZE, SIZE), float32 in [0, 1]."""
    images = torch.from_numpy(np.load(folder / f"{name}.npy")).permute(0, 3, 1, 2)  # (N, 3, SIZE, SIZE)
    return (images.float() / 255).split(16)


def fit(fitted: Padim, folder: Path) -> None:
    fitted.train()
    with torch.no_grad():
        for images in pixels(folder, "train"):
            fitted.model(fitted.pre_processor(images))
        fitted.model.fit()
    fitted.eval()


def score_pixels(fitted: Padim, folder: Path) -> None:
    with torch.inference_mode():
        scores = [fitted.model(fitted.pre_processor(images)).pred_score.flatten() for images in pixels(folder, "distinct")]
    names = sorted(path.name for path in (folder / "distinct").iterdir())
    write(folder / "theirs-same-pixels.csv", names, torch.cat(scores).tolist())


def predicted(fitted: Padim, pictures: Path, setting: tuple[int, int, str]) -> float:
    """Pictures a second of `predict`."""
    size, workers, precision = setting
    clock = time.perf_counter()
    engine(pictures.parent, precision).predict(
        model=fitted, dataloaders=batches(pictures, size, workers), return_predictions=False
    )
    return count(pictures) / (time.perf_counter() - clock)


def default(fitted: Padim, pictures: Path) -> float:
    """Pictures a second of `predict` as it comes; its scores go to theirs.csv."""
    drawing = model(visualizer=True)
    drawing.load_state_dict(fitted.state_dict())
    clock = time.perf_counter()
    predictions = engine(pictures.parent).predict(model=drawing, data_path=pictures)
    seconds = time.perf_counter() - clock
    names = [os.path.basename(path) for batch in predictions for path in batch.image_path]
    write(pictures.parent / "theirs.csv", names, torch.cat([batch.pred_score.flatten() for batch in predictions]).tolist())
    return count(pictures) / seconds


def model_alone(fitted: Padim, pictures: Path, setting: tuple[int, int, str]) -> float:
    """Pictures a second of normalising, backbone, distances and map, on one batch again and again."""
    size, _, precision = setting
    device = "cuda" if torch.cuda.is_available() else "cpu"
    fitted.to(device)
    images = next(iter(batches(pictures, size, 0))).image.to(device)
    scored, clock = 0, time.perf_counter()
    with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=precision == "bf16-mixed"):
        while (seconds := time.perf_counter() - clock) < ALONE_S:
            fitted.model(fitted.pre_processor(images)).pred_score.cpu()
            scored += len(images)
    return scored / seconds


def write(path: Path, names: list[str], scores: list[float]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(zip(names, scores, strict=True))


def count(pictures: Path) -> int:
    return sum(1 for _ in pictures.iterdir())


def say(kind: str, setting: tuple[int, int, str], rate: float) -> None:
    named = dict(zip(("batch", "workers", "precision"), setting, strict=True))
    print(json.dumps({"kind": kind, **named, "images_per_s": round(rate, 2)}), flush=True)


def main() -> None:
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(THREADS)
    folder = Path(sys.argv[1])
    fitted = model(visualizer=False)
    fit(fitted, folder)
    save_file({"channels": fitted.model.idx.contiguous()}, folder / "theirs.safetensors")
    score_pixels(fitted, folder)
    predicted(fitted, folder / "few", SETTINGS[0])  # what is imported and compiled once
    rates = {}
    for setting in SETTINGS:
        rates[setting] = predicted(fitted, folder / "first", setting)
        say("first", setting, rates[setting])
    best = max(SETTINGS, key=rates.__getitem__)
    say("best", best, predicted(fitted, folder / "distinct", best))
    say("default", (1, 0, "32"), default(fitted, folder / "distinct"))
    say("model_alone", best, model_alone(fitted, folder / "distinct", best))


if __name__ == "__main__":
    main()
