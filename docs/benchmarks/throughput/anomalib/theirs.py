"""anomalib's PaDiM on the MobileNetV1 file: fitted, scored and timed by `Engine.predict`. Run by an interpreter with anomalib.

    python theirs.py FOLDER

FOLDER is the one that ours.py has prepared: `train` and `images` hold pictures. Writes `theirs.safetensors` (its channels) and
`theirs.csv` (a score a picture), then a line of JSON for every setting: batch size, workers, precision, pictures a second
of `predict` alone. `default` is `predict(data_path=...)` with everything as it comes, which also draws a picture of
each result. The backbone's weights are those of FLOWSCORE_ASSETS.
"""

import csv
import json
import logging
import os
import sys
import time
import warnings
from pathlib import Path

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
    return Engine(
        accelerator="cpu", logger=False, precision=precision, enable_progress_bar=False, default_root_dir=folder / "anomalib"
    )


def fit(fitted: Padim, folder: Path) -> None:
    fitted.train()
    with torch.no_grad():
        for batch in batches(folder / "train", 16, 0):
            fitted.model(fitted.pre_processor(batch.image))
        fitted.model.fit()
    fitted.eval()


def main() -> None:
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(THREADS)
    folder = Path(sys.argv[1])
    count = sum(1 for _ in (folder / "images").iterdir())
    fitted = model(visualizer=False)
    fit(fitted, folder)
    save_file({"channels": fitted.model.idx.contiguous()}, folder / "theirs.safetensors")
    with open(folder / "theirs.csv", "w", newline="", encoding="utf-8") as file:
        for batch in engine(folder).predict(model=fitted, dataloaders=batches(folder / "images", 16, 0)):
            csv.writer(file).writerows(
                zip(map(os.path.basename, batch.image_path), batch.pred_score.flatten().tolist(), strict=True)
            )
    for size, workers, precision in SETTINGS:
        clock = time.perf_counter()
        engine(folder, precision).predict(
            model=fitted, dataloaders=batches(folder / "images", size, workers), return_predictions=False
        )
        rate = count / (time.perf_counter() - clock)
        print(
            json.dumps({"batch": size, "workers": workers, "precision": precision, "images_per_s": round(rate, 2)}), flush=True
        )
    with_pictures = model(visualizer=True)
    with_pictures.load_state_dict(fitted.state_dict())
    clock = time.perf_counter()
    engine(folder).predict(model=with_pictures, data_path=folder / "images")
    print(json.dumps({"default": True, "images_per_s": round(count / (time.perf_counter() - clock), 2)}))


if __name__ == "__main__":
    main()
