"""Training on 100,000 images holds no more memory than on 5,000: every case is measured in a process of its own."""

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from torch import Tensor

from models import registry
from models.backbones.backbone import BackboneConfig
from models.config import ArtifactConfig, InputConfig
from models.detector import Detector, FitRun
from models.features.store import FeatureStore

MANY, FEW = 100_000, 5_000
# Positions and their order are 8 bytes an image each, and an allocator keeps some tens of MB more or less from run to run.
# What fit reads of an image is 1 KB at least in every case here, 93 MB more for MANY than for FEW.
MOST_GROWTH_MB = 64
SIZE = 32
FLOWS = {
    "csflow": {"scales": 2, "whiten_dims": 8, "hidden": 4, "kernels": [1]},
    "differnet": {"scales": 2, "whiten_dims": 64, "blocks": 1, "hidden": 4},
    "fastflow": {"whiten_dims": 8, "steps": 1, "kernels": [1]},
    "cflow": {"whiten_dims": 8, "steps": 1},
}
BRIEF = {"epochs": 1, "batch_size": 64}
BANK = 40
PATCH_IMAGES = (500, 2_000)  # pixels are 48 KB an image, its draws 240 KB
PATCH_SIZE = 64


class Watched:
    """The largest anonymous memory of this process, looked at on every read: pages of a mapped file are not in it."""

    def __init__(self) -> None:
        self.peak_kb = 0

    def look(self) -> None:
        status = Path("/proc/self/status").read_text()
        (line,) = (line for line in status.splitlines() if line.startswith("RssAnon:"))
        self.peak_kb = max(self.peak_kb, int(line.split()[1]))


class Generated(Watched):
    """Features of any number of images, made when they are read; an image's depend on its position."""

    def __init__(self, shapes: list[tuple[int, ...]], scale: float = 1.0):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.drawn = [scale * torch.rand(97, *shape, generator=generator) for shape in shapes]
        self.turned = [scale * torch.rand(89, *shape, generator=generator) for shape in shapes]

    def read(self, positions: Tensor) -> list[Tensor]:
        self.look()
        return [(a[positions % 97] + b[positions % 89]) / 2 for a, b in zip(self.drawn, self.turned, strict=True)]


def build(name: str, size: int, hyperparameters: dict) -> Detector:
    backbone = BackboneConfig(name="test_resnet", weights="none")
    size_px = InputConfig(height=size, width=size)
    config = ArtifactConfig(name="tiny", detector=name, backbone=backbone, input=size_px, hyperparameters=hyperparameters)
    return registry.build(config)


def fit_flow(name: str, count: int) -> int:
    detector = build(name, SIZE, FLOWS[name])
    maps = detector.extract(torch.zeros(1, SIZE, SIZE, 3, dtype=torch.uint8))
    images = Generated([tuple(x.shape[1:]) for x in maps])
    run = FitRun(detector.Training(**BRIEF), on_step=lambda step: images.look())
    detector.fit(images, torch.arange(count), run)
    return images.peak_kb


def fit_patches(count: int) -> int:
    detector = build("patchsvdd", PATCH_SIZE, {"bank_size": BANK})
    images = Generated([(3, PATCH_SIZE, PATCH_SIZE)], 255)
    run = FitRun(detector.Training(epochs=1, epoch_steps=0, pairs_per_image=1), on_step=lambda step: images.look())
    detector.fit(images, torch.arange(count), run)
    images.look()
    return images.peak_kb


def make_banks(count: int) -> int:
    detector = build("patchsvdd", PATCH_SIZE, {"bank_size": BANK})
    images = Generated([(3, PATCH_SIZE, PATCH_SIZE)], 255)
    detector._fit_banks(images, torch.arange(count), FitRun(detector.Training()))
    images.look()
    return images.peak_kb


def store(count: int) -> int:
    """Rows of 4 KB, written in batches and read back in a random order."""
    images, watched = Generated([(32, 8, 8), (16, 4, 4)]), Watched()
    with tempfile.TemporaryDirectory() as folder, FeatureStore(Path(folder), "good") as stored:
        for batch in torch.arange(count).split(50):
            stored.append(images.read(batch))
        assert len(stored) == count
        for batch in torch.randperm(count, generator=torch.Generator().manual_seed(0)).split(50):
            found = stored.read(batch)
            watched.look()
        for x, y in zip(found, images.read(batch), strict=True):
            assert torch.equal(x, y.half().float())
    return max(watched.peak_kb, images.peak_kb)


CASES = {"store": store, "fit_patches": fit_patches, "make_banks": make_banks}


def peak_mb(case: str, count: int) -> float:
    """Of a new process, in which the case is all that happens."""
    command = [sys.executable, __file__, case, str(count)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, cwd=Path(__file__).parents[3])
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[-1]) / 1024


@pytest.mark.slow
@pytest.mark.parametrize("name", FLOWS)
def test_fit_keeps_nothing_of_an_image(name):
    assert peak_mb(name, MANY) - peak_mb(name, FEW) < MOST_GROWTH_MB


@pytest.mark.slow
def test_stored_features_stay_on_disk():
    assert peak_mb("store", MANY) - peak_mb("store", FEW) < MOST_GROWTH_MB


@pytest.mark.slow
def test_patches_are_drawn_anew_for_every_batch():
    few, many = PATCH_IMAGES
    assert peak_mb("fit_patches", many) - peak_mb("fit_patches", few) < MOST_GROWTH_MB


def test_the_bank_is_made_of_a_bounded_number_of_vectors():
    assert peak_mb("make_banks", MANY) - peak_mb("make_banks", FEW) < MOST_GROWTH_MB


if __name__ == "__main__":
    wanted, number = sys.argv[1], int(sys.argv[2])
    print(CASES[wanted](number) if wanted in CASES else fit_flow(wanted, number))
