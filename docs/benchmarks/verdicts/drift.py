"""What the nightly drift chart sees on real pictures: false alarms, power, and the source it names.

    python docs/benchmarks/verdicts/drift.py FOLDER [--references 1000]

Prints the tables of docs/benchmarks/verdicts/drift.md. PaDiM is fitted to the magnetic tiles' good pictures of one half of the
tiles; nights are drawn from the other half, piece by piece, with a lot effect of 0.2 standard deviations on every quantity of a
picture, anew each night. Changes are made to the pictures at the model's input size, 8 bits, and measured by the product's own
functions. What was measured of the pictures stays in FOLDER. Needs FLOWSCORE_ASSETS.
"""

import argparse
import csv
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.stats import t

from models import registry
from models.config import ArtifactConfig, InputConfig
from models.detector import FitRun
from models.features.store import ImageFeatures
from models.verdicts import cusum
from models.verdicts.drift import FALSE_ALARMS, Reference, chart, judge, start
from models.verdicts.night_channels import NightImages, ViewCentres, centres, night_channels
from pipeline.decode.config import DecodeConfig
from pipeline.decode.image import decode_image, grey_statistics

SIZE = 128
BATCH = 32
LOT_EFFECT = 0.2
NIGHT_SIZES = (200, 1000)
UNCHANGED_NIGHTS = 8  # watched after each reference
MONTH = 30


def blurred(grey: np.ndarray, sigma: float) -> np.ndarray:
    return np.rint(gaussian_filter(grey.astype(np.float64), sigma)).astype(np.uint8)


CHANGES: dict[str, tuple[str, Callable[[np.ndarray], np.ndarray]]] = {
    **{
        f"light {-share} %": ("light", lambda grey, share=share: np.rint(grey * (1 - share / 100)).astype(np.uint8))
        for share in (5, 10, 15, 20)
    },
    **{f"blur {sigma:g} px": ("focus", lambda grey, sigma=sigma: blurred(grey, sigma)) for sigma in (0.5, 1)},
}
OTHERS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "turned": lambda grey: np.rot90(grey),
    "magnified": lambda grey: np.asarray(Image.fromarray(grey[32:96, 32:96]).resize((SIZE, SIZE))),
}
"""Another product: the tile a quarter turned, with the light and sharpness of its own, or at twice the scale."""
SHARES = (2, 5, 10)


class Quantities(NamedTuple):
    """Of n pictures, (n, 6): log brightness, log contrast, log sharpness, log size, score, embedding distance."""

    values: np.ndarray

    def night(self, at: np.ndarray, lot: np.ndarray) -> NightImages:
        """The pictures at these positions, with the lot's effect (6,) added."""
        x = self.values[at] + lot
        return NightImages(["tile"] * len(at), *np.exp(x[:, :4]).T, x[:, 4], x[:, 5])


class Row(NamedTuple):
    """alarms: share of nights over.  named: of these, with the right source among those named.  alone: named alone."""

    alarms: float
    named: float
    alone: float


def measure(folder: Path) -> dict[str, Quantities]:
    """The quantities of the other half's pictures: plain, and after each change. Kept in the folder."""
    kept = folder / "quantities.npz"
    if kept.is_file():
        return {name: Quantities(values) for name, values in np.load(kept).items()}
    source = Path(os.environ["FLOWSCORE_ASSETS"]) / "assets" / "mtd"
    with open(source / "tiles.csv", newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if "/good/" in row["path"]]
    half = np.array([int(row["tile"]) % 2 for row in rows], bool)
    config = DecodeConfig(height=SIZE, width=SIZE)
    pictures = [decode_image((source / row["path"]).read_bytes(), config) for row in rows]
    greys = np.stack([picture.pixels[:, :, 0] for picture in pictures])  # (n, H, W)
    size = np.array([np.log(picture.width * picture.height) for picture in pictures])[half]
    detector = registry.build(
        ArtifactConfig(name="tiles", detector="padim", input=InputConfig(height=SIZE, width=SIZE), batch_size=BATCH)
    )
    with tempfile.TemporaryDirectory() as scratch, ImageFeatures(detector, Path(scratch), "fit") as images:
        for batch in batches(greys[~half]):
            images.append(batch)
        detector.fit(images, torch.arange(int((~half).sum())), FitRun(detector.Training()))
    pooled, _ = features(detector, greys[~half])
    middle = pooled.mean(0)
    _, spreads, axes = np.linalg.svd(pooled - middle, full_matrices=False)
    project = axes[:16].T / (spreads[:16] / np.sqrt(len(pooled) - 1))

    def quantities(changed: np.ndarray) -> np.ndarray:
        statistics = np.log(np.maximum([grey_statistics(np.ascontiguousarray(grey)) for grey in changed], 0.25))
        pooled, score = features(detector, changed)
        return np.column_stack([statistics, size, score, np.linalg.norm((pooled - middle) @ project, axis=1)])

    found = {"plain": quantities(greys[half])}
    for name, change in [*((name, change) for name, (_, change) in CHANGES.items()), *OTHERS.items()]:
        found[name] = quantities(np.stack([change(grey) for grey in greys[half]]))
        print(f"measured {name}", flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(kept, **found)
    return {name: Quantities(values) for name, values in found.items()}


def batches(greys: np.ndarray) -> Iterator[torch.Tensor]:
    """(B, H, W, 3) uint8."""
    for top in range(0, len(greys), BATCH):
        yield torch.from_numpy(np.repeat(greys[top : top + BATCH, :, :, None], 3, axis=3))


@torch.inference_mode()
def features(detector: torch.nn.Module, greys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The deepest features' mean over the picture, (n, C), and the score, (n,)."""
    pooled, scores = [], []
    for batch in batches(greys):
        maps = detector.extract(batch)
        pooled.append(maps[-1].mean(dim=(2, 3)).numpy())
        scores.append(detector.score_features(maps).score.numpy())
    return np.concatenate(pooled).astype(np.float64), np.concatenate(scores).astype(np.float64)


class Nights:
    """Draws nights of some number of pieces from measured pictures."""

    def __init__(self, quantities: dict[str, Quantities], pieces: int, seed: int):
        self.quantities, self.pieces, self.rng = quantities, pieces, np.random.default_rng(seed)
        self.spread = quantities["plain"].values.std(axis=0)

    def draw(self, change: str = "plain", mixed: str | None = None, share: float = 0.0) -> NightImages:
        lot = LOT_EFFECT * self.spread * self.rng.normal(size=6)
        at = self.rng.integers(len(self.quantities["plain"].values), size=self.pieces)
        night = self.quantities[change].night(at, lot)
        if mixed is None:
            return night
        other = self.quantities[mixed].night(at, lot)
        foreign = self.rng.random(self.pieces) < share
        return NightImages(
            night.view, *(np.where(foreign, theirs, ours) for ours, theirs in zip(night[1:], other[1:], strict=True))
        )

    def reference(self, count: int) -> tuple[Reference, ViewCentres]:
        drawn = [self.draw() for _ in range(count)]
        centred = centres(drawn)
        return Reference(np.stack([night_channels(night, centred) for night in drawn])), centred


def raw_counts_over(reference: Reference, night: np.ndarray) -> bool:
    """The same limit on raw counts in place of asin sqrt of their share: what was tried first."""
    every = np.vstack([reference.nights, night])
    every[:, [5, 7]] = np.sin(every[:, [5, 7]]) ** 2
    usual, tonight = every[:-1], every[-1]
    count, channels = usual.shape
    limit = t.isf(float(FALSE_ALARMS) / (2 * channels), count - 1) * np.sqrt(1 + 1 / count)
    with np.errstate(divide="ignore", invalid="ignore"):
        return bool((np.abs(tonight - usual.mean(0)) / usual.std(0, ddof=1) > limit).any())


def false_alarms(quantities: dict[str, Quantities], pieces: int, count: int, references: int) -> tuple[float, float, float]:
    """Share of unchanged nights over, its standard error over references, and the share with raw counts."""
    nights = Nights(quantities, pieces, seed=count + pieces)
    over, raw = np.zeros((references, UNCHANGED_NIGHTS)), np.zeros((references, UNCHANGED_NIGHTS))
    for i in range(references):
        reference, centred = nights.reference(count)
        for j in range(UNCHANGED_NIGHTS):
            night = night_channels(nights.draw(), centred)
            over[i, j], raw[i, j] = chart(reference, night).over.any(), raw_counts_over(reference, night)
    return float(over.mean()), float(over.mean(axis=1).std() / np.sqrt(references)), float(raw.mean())


def suspensions(quantities: dict[str, Quantities], pieces: int, count: int, references: int) -> tuple[float, float]:
    """Share of references after which 30 unchanged nights are suspended at least once: by two nights, and by the sums."""
    nights = Nights(quantities, pieces, seed=13 + count + pieces)
    two, sums = 0, 0
    for _ in range(references):
        reference, centred = nights.reference(count)
        carried, said = start(reference), set()
        for _ in range(MONTH):
            carried, judged = judge(reference, carried, night_channels(nights.draw(), centred))
            said.add(judged.sentence.partition(":")[0])
        two, sums = two + ("suspended after two nights in a row" in said), sums + ("suspended after a slow drift" in said)
    return two / references, sums / references


def power(quantities: dict[str, Quantities], pieces: int, count: int, references: int) -> dict[str, Row]:
    """One changed night of each kind after each reference."""
    nights = Nights(quantities, pieces, seed=7 + count + pieces)
    kinds = [(name, source, name, None, 0) for name, (source, _) in CHANGES.items()]
    kinds += [(f"{share} % {other}", "mix", "plain", other, share) for other in OTHERS for share in SHARES]
    tally = {kind[0]: np.zeros(3) for kind in kinds}
    for _ in range(references):
        reference, centred = nights.reference(count)
        for name, source, change, mixed, share in kinds:
            night = night_channels(nights.draw(change, mixed, share / 100), centred)
            named = judge(reference, start(reference), night)[1].sources
            tally[name] += bool(named), source in named, named == (source,)
    return {
        name: Row(over / references, right / max(over, 1), alone / max(over, 1)) for name, (over, right, alone) in tally.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--references", type=int, default=1000)
    given = parser.parse_args()
    quantities = measure(given.folder)
    print("\n| pieces a night | reference nights | unchanged nights over | with raw counts |\n|---|---|---|---|")
    for pieces in NIGHT_SIZES:
        for count in (20, 40):
            over, error, raw = false_alarms(quantities, pieces, count, given.references)
            by_raw = f"{100 * raw:.2f} %" if count < 33 else "(ranks)"
            print(f"| {pieces:,} | {count} | {100 * over:.2f} % +- {100 * error:.2f} | {by_raw} |", flush=True)
    print("\n| pieces a night | reference nights | a month suspended by two nights | by the sums |\n|---|---|---|---|")
    for count in (20, 60):
        two, sums = suspensions(quantities, 200, count, given.references // 2)
        print(f"| 200 | {count} | {100 * two:.1f} % | {100 * sums:.1f} % |", flush=True)
    tables = [power(quantities, pieces, 20, given.references) for pieces in NIGHT_SIZES]
    head = " | ".join(f"{pieces:,} pieces: over | source named | named alone" for pieces in NIGHT_SIZES)
    print(f"\n| change | {head} |\n|---|---|---|---|---|---|---|")
    for name in tables[0]:
        cells = " | ".join(f"{100 * cell:.0f} %" for table in tables for cell in table[name])
        print(f"| {name} | {cells} |")
    print(
        "\n| reference nights | k | false suspension in 30 nights | in 365 | delay at 1 sd | 1.5 sd | 2 sd | 3 sd |\n"
        "|---|---|---|---|---|---|---|---|"
    )
    for count, slack in [(20, 0.5), (60, 0.5), *((count, cusum.slack_of(count)) for count in (20, 33, 40, 60, 100, 200))]:
        chances = [f"{100 * cusum.false_suspension(count, 8, horizon, slack):.1f} %" for horizon in (30, 365)]
        delays = [f"{cusum.run_length(shift, slack=slack):.1f}" for shift in (1, 1.5, 2, 3)]
        print(f"| {count} | {slack:.2f} | {' | '.join(chances + delays)} |")


if __name__ == "__main__":
    main()
