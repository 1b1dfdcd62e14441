"""Ten made-up surfaces with defects of kinds that the criterion does not draw, as data sets in the MVTec layout.

    python docs/benchmarks/accuracy/surfaces.py FOLDER

models/fitting/synthetic.py pastes patches, lines, spots, blots of noise and uneven light. Here a place is dented, blurred or
turned, takes another hue, slips sideways, or cracks: changes of what is there, not something laid over it. Eight surfaces are
textures, two are parts that lie in the same place in every image. Everything follows from the surface's name and a number.
auto.py asks on them whether `--detector auto` chooses well on what nobody tuned it on.
"""

import argparse
import csv
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

SIDE = 256
TRAIN, GOOD, DEFECTS = 160, 40, 20  # images to train on, good ones to test with, defects of each kind
KINDS_EACH = 3
Pixels = NDArray[np.float64]
"""(256, 256, 3), 0 to 1."""
ROWS, COLUMNS = np.mgrid[0:SIDE, 0:SIDE].astype(np.float64)


def noise(rng: np.random.Generator, *sigma: float) -> NDArray[np.float64]:
    """(256, 256), smoothed by so many pixels along rows and columns, mean 0, standard deviation 1."""
    found: NDArray[np.float64] = ndimage.gaussian_filter(rng.standard_normal((SIDE, SIDE)), sigma, mode="wrap")
    return (found - found.mean()) / found.std()


def coloured(grey: NDArray[np.float64], *colour: float) -> Pixels:
    return grey[..., None] * np.array(colour)


def weave(rng: np.random.Generator) -> Pixels:
    wander = 2.0 * noise(rng, 30, 30)
    across, along = np.sin((ROWS + wander) * 0.7 + rng.uniform(0, 6)), np.sin((COLUMNS - wander) * 0.7 + rng.uniform(0, 6))
    return coloured(0.5 + 0.18 * np.where(across * along > 0, across, along) + 0.03 * noise(rng, 1, 1), 1.0, 0.95, 0.85)


def brushed(rng: np.random.Generator) -> Pixels:
    return coloured(0.6 + 0.08 * noise(rng, 0.6, 25) + 0.04 * noise(rng, 2, 60), 0.95, 0.97, 1.0)


def concrete(rng: np.random.Generator) -> Pixels:
    grey = 0.55 + 0.05 * noise(rng, 12, 12) + 0.05 * noise(rng, 1, 1)
    return coloured(np.where(noise(rng, 2.5, 2.5) > 2.0, grey - 0.2, grey), 1.0, 0.99, 0.96)


def wood(rng: np.random.Generator) -> Pixels:
    rings = np.sin((ROWS * 0.25 + 3.0 * noise(rng, 12, 70)) + rng.uniform(0, 6))
    return coloured(0.55 + 0.1 * rings + 0.04 * noise(rng, 0.7, 9), 1.0, 0.75, 0.5)


def wall(rng: np.random.Generator) -> Pixels:
    shift = rng.integers(0, 32, 2)
    row, column = (ROWS.astype(int) + shift[0]) // 32, (COLUMNS.astype(int) + shift[1]) // 32
    tone = rng.uniform(0.5, 0.65, (16, 16))[row % 16, column % 16]
    grout = ((ROWS.astype(int) + shift[0]) % 32 < 3) | ((COLUMNS.astype(int) + shift[1]) % 32 < 3)
    return coloured(np.where(grout, 0.35, tone) + 0.03 * noise(rng, 1, 1), 0.9, 0.95, 1.0)


def print_dots(rng: np.random.Generator) -> Pixels:
    angle = rng.normal(0, 0.01)
    u = ROWS * np.cos(angle) - COLUMNS * np.sin(angle) + rng.uniform(0, 16)
    v = ROWS * np.sin(angle) + COLUMNS * np.cos(angle) + rng.uniform(0, 16)
    dots = np.hypot(u % 16 - 8, (v + 8 * (u // 16 % 2)) % 16 - 8) < 4.5
    ink = ndimage.gaussian_filter(dots.astype(np.float64), 0.8)
    return coloured(0.85 - 0.5 * ink + 0.02 * noise(rng, 1, 1), 1.0, 1.0, 0.95)


def leather(rng: np.random.Generator) -> Pixels:
    seeds = np.zeros((SIDE, SIDE), bool)
    seeds[tuple(rng.integers(0, SIDE, (2, 900)))] = True
    distance = ndimage.distance_transform_edt(~seeds)
    grey = 0.5 - 0.03 * np.minimum(distance, 8) + 0.03 * noise(rng, 1.5, 1.5) + 0.03 * noise(rng, 40, 40)
    return coloured(grey, 0.9, 0.6, 0.45)


def fibres(rng: np.random.Generator) -> Pixels:
    turned = [ndimage.rotate(noise(rng, 0.7, 18), angle, reshape=False, mode="wrap") for angle in rng.uniform(0, 180, 6)]
    return coloured(0.6 + 0.05 * np.max(turned, axis=0) + 0.02 * noise(rng, 20, 20), 1.0, 1.0, 1.0)


def disc(rng: np.random.Generator) -> Pixels:
    top, left = 128 + rng.normal(0, 1.5, 2)
    radius, angle = np.hypot(ROWS - top, COLUMNS - left), np.arctan2(ROWS - top, COLUMNS - left)
    metal = 0.55 + 0.12 * np.cos(2 * angle + 1) + 0.04 * np.sin(radius * 1.2) + 0.02 * noise(rng, 1, 1)
    around = np.arange(6) * np.pi / 3
    holes = np.min([np.hypot(ROWS - top - 70 * np.sin(a), COLUMNS - left - 70 * np.cos(a)) for a in around], axis=0)
    inside = (radius < 115) & (radius > 28) & (holes > 10)
    return coloured(np.where(inside, metal, 0.12 + 0.01 * noise(rng, 2, 2)), 1.0, 0.98, 0.93)


def board(rng: np.random.Generator) -> Pixels:
    layout = np.random.default_rng(7)
    found = np.full((SIDE, SIDE, 3), [0.1, 0.35, 0.2]) + 0.015 * noise(rng, 1, 1)[..., None]
    for _ in range(26):
        (top, left), (height, width) = layout.integers(6, 215, 2), layout.integers(8, 34, 2)
        tone, moved = layout.uniform(0.15, 0.8), np.round(rng.normal(0, 0.6, 2)).astype(int)
        place = slice(top + moved[0], top + moved[0] + height), slice(left + moved[1], left + moved[1] + width)
        found[place] = tone * layout.uniform(0.8, 1.0, 3) + rng.normal(0, 0.01)
    for row in layout.integers(0, SIDE, 12):
        found[row, :, :] = 0.6
    return found


def blot(rng: np.random.Generator) -> NDArray[np.float64]:
    """A soft mask, 0 to 1, of a place of 0.4 to 4 % of the image, away from its edges."""
    radius = rng.uniform(9, 28)
    top, left = rng.uniform(48, SIDE - 48, 2)
    wobble = 1 + 0.25 * noise(rng, 12, 12)
    distance = np.hypot((ROWS - top) * rng.uniform(0.7, 1.4), COLUMNS - left) * wobble
    return 1 / (1 + np.exp((distance - radius) / 1.5))


def dent(image: Pixels, rng: np.random.Generator) -> tuple[Pixels, NDArray[np.bool_]]:
    mask = blot(rng)
    push = ndimage.gaussian_filter(mask, 6)
    down, right = np.gradient(push)
    scale = rng.uniform(5, 9) / max(np.abs(down).max(), np.abs(right).max())
    places = [ROWS + scale * down, COLUMNS + scale * right]
    moved = np.stack([ndimage.map_coordinates(image[..., c], places, order=1, mode="nearest") for c in range(3)], -1)
    shade = 1 + 0.25 * (down + right)[..., None] / max(np.abs(down + right).max(), 1e-9)
    return moved * shade, push > 0.1


def blur(image: Pixels, rng: np.random.Generator) -> tuple[Pixels, NDArray[np.bool_]]:
    mask = blot(rng)
    return _within(image, ndimage.gaussian_filter(image, (3, 3, 0)), mask), mask > 0.5


def turn(image: Pixels, rng: np.random.Generator) -> tuple[Pixels, NDArray[np.bool_]]:
    mask = blot(rng)
    turned = np.rot90(np.roll(image, rng.integers(0, SIDE, 2), axis=(0, 1)))
    return _within(image, turned, mask), mask > 0.5


def hue(image: Pixels, rng: np.random.Generator) -> tuple[Pixels, NDArray[np.bool_]]:
    mask = blot(rng)
    factors = 1 + rng.permutation([0.18, -0.05, -0.15])
    return _within(image, image * factors, mask), mask > 0.5


def slip(image: Pixels, rng: np.random.Generator) -> tuple[Pixels, NDArray[np.bool_]]:
    height, length = int(rng.integers(6, 16)), int(rng.integers(60, 140))
    top, left = int(rng.integers(20, SIDE - 40)), int(rng.integers(20, SIDE - 20 - length))
    found, mask = image.copy(), np.zeros((SIDE, SIDE), bool)
    place = slice(top, top + height), slice(left, left + length)
    found[place] = np.roll(image[top : top + height], int(rng.integers(5, 12)), axis=1)[:, left : left + length]
    mask[place] = True
    return found, mask


def crack(image: Pixels, rng: np.random.Generator) -> tuple[Pixels, NDArray[np.bool_]]:
    place, heading = rng.uniform(60, SIDE - 60, 2), rng.uniform(0, 2 * np.pi)
    line = np.zeros((SIDE, SIDE))
    for _ in range(int(rng.integers(50, 120))):
        heading += rng.normal(0, 0.35)
        place = np.clip(place + [np.sin(heading), np.cos(heading)], 2, SIDE - 3)
        line[tuple(place.astype(int))] = 1.0
    wide = ndimage.gaussian_filter(line, 0.8)
    return image * (1 - 0.6 * np.minimum(1, 2 * wide))[..., None], ndimage.binary_dilation(line > 0, iterations=2)


def _within(image: Pixels, other: Pixels, mask: NDArray[np.float64]) -> Pixels:
    return image + mask[..., None] * (other - image)


SURFACES: dict[str, Callable[[np.random.Generator], Pixels]] = {
    "weave": weave,
    "brushed": brushed,
    "concrete": concrete,
    "wood": wood,
    "wall": wall,
    "print": print_dots,
    "leather": leather,
    "fibres": fibres,
    "disc": disc,
    "board": board,
}
KINDS: dict[str, Callable[[Pixels, np.random.Generator], tuple[Pixels, NDArray[np.bool_]]]] = {
    "dent": dent,
    "blur": blur,
    "turn": turn,
    "hue": hue,
    "slip": slip,
    "crack": crack,
}


def kinds_of(surface: str) -> list[str]:
    """Three of the kinds; the next surface has two of them."""
    first = list(SURFACES).index(surface)
    return [list(KINDS)[(first + i) % len(KINDS)] for i in range(KINDS_EACH)]


def picture(surface: str, number: int, kind: str | None = None) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """An image, (256, 256, 3), and its mask, (256, 256).

    >>> image, mask = picture("weave", 3, "dent")
    >>> image.shape, bool(mask.any()), bool((image != picture("weave", 3)[0]).any())
    ((256, 256, 3), True, True)
    """
    seed = zlib.crc32(surface.encode()), number
    image, mask = SURFACES[surface](np.random.default_rng(seed)), np.zeros((SIDE, SIDE), bool)
    if kind is not None:
        image, mask = KINDS[kind](image, np.random.default_rng((*seed, zlib.crc32(kind.encode()))))
    light = np.random.default_rng((*seed, 1)).normal(1, 0.02)  # a lamp is never the same
    return np.clip(255 * image * light, 0, 255).round().astype(np.uint8), mask


def tree(surface: str, folder: Path) -> Path:
    """The data set below the folder, with tiles.csv (path, tile), where every image is a tile of its own."""
    found = folder / f"surface-{surface}"
    if (found / "tiles.csv").is_file():
        return found
    sets: list[tuple[str, str | None, int]] = [("train/good", None, TRAIN), ("test/good", None, GOOD)]
    sets += [(f"test/{kind}", kind, DEFECTS) for kind in kinds_of(surface)]
    rows, number = [["path", "tile"]], 0
    for place, kind, count in sets:
        (found / place).mkdir(parents=True, exist_ok=True)
        for _ in range(count):
            image, mask = picture(surface, number, kind)
            Image.fromarray(image).save(found / place / f"{number:03}.png")
            if kind is not None:
                target = found / "ground_truth" / kind / f"{number:03}.png"
                target.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(255 * mask.astype(np.uint8)).save(target)
            rows.append([f"{place}/{number:03}.png", f"{number}"])
            number += 1
    with open(found / "tiles.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    for surface in SURFACES:
        print(tree(surface, folder), *kinds_of(surface))


if __name__ == "__main__":
    main()
