"""Scores loose images by plain Ray Data, as its documentation shows it: read_images, map, map_batches, write_parquet.

    PYTHONPATH=. python docs/benchmarks/throughput/ray_data/read_images.py IMAGES MODEL OUTPUT ACTORS

Each actor holds the product's torch model. ACTORS of them share what compare.py gives them: a GPU, or one CPU core.
No plan, no commit, no quarantine: an image that cannot be read ends the run, and a run that ends begins anew.
"""

import sys
from pathlib import Path

import numpy as np
import ray
import torch
from PIL import Image

from models import artifact


class Detector:
    def __init__(self, model: str) -> None:
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.detector = artifact.load(artifact.read(Path(model)), self.device)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        with torch.inference_mode():
            scored = self.detector.score(torch.from_numpy(batch["image"]).to(self.device))
        return {"path": batch["path"], "score": scored.score.cpu().numpy(), "map": scored.anomaly_map.cpu().numpy()}


def main() -> None:
    images, model, output, actors = sys.argv[1:]
    config = artifact.read(Path(model)).config
    size = (config.input.width, config.input.height)

    def resize(row: dict) -> dict:
        return {**row, "image": np.asarray(Image.fromarray(row["image"]).resize(size, Image.Resampling.BILINEAR))}

    ray.init(address="local", log_to_driver=False)
    one = {"num_gpus": 1 / int(actors)} if torch.cuda.is_available() else {"num_cpus": 1 / int(actors)}
    images_with_paths = ray.data.read_images(images, mode="RGB", include_paths=True)
    pool = ray.data.ActorPoolStrategy(size=int(actors))
    scored = images_with_paths.map(resize).map_batches(
        Detector, fn_constructor_args=[model], batch_size=config.batch_size, compute=pool, **one
    )
    scored.write_parquet(output)


if __name__ == "__main__":
    main()
