"""Procedural inspection images for the demo: three products, each a surface, and their defects.

One numpy generator draws everything, so the same seed gives the same pixels. Pictures are float32 (H, W, 3) in
0..1 until `render` turns them into uint8.
"""

from dataclasses import dataclass
from math import cos, pi, radians, sin

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Picture = NDArray[np.float32]
Mask = NDArray[np.bool_]

PRODUCTS = ("woven", "brushed", "speckled")
DEFECTS = {
    "woven": ("missing_thread", "spot", "scratch"),
    "brushed": ("scratch", "dent", "spot"),
    "speckled": ("scratch", "spot", "inclusion"),
}
THREAD_PX = 9.0


@dataclass(frozen=True)
class Sample:
    """One image as a camera over the line would deliver it, with the truth about it."""

    pixels: NDArray[np.uint8]
    product: str
    defect: str
    mask: Mask


def render(product: str, defect: str, size: int, seed: tuple[int, ...]) -> Sample:
    """Draw one image.

    Args:
        product: one of PRODUCTS.
        defect: one of DEFECTS[product], or `good`.
        size: height and width, px.
        seed: same seed, same pixels.
    Returns:
        Sample with pixels (size, size, 3) uint8 and the defect's mask (size, size), empty for `good`.
    """
    rng = np.random.default_rng(seed)
    mask = np.zeros((size, size), bool)
    if product == "woven":
        picture, mask = woven(rng, size, gap=defect == "missing_thread")
    else:
        picture = {"brushed": brushed, "speckled": speckled}[product](rng, size)
    if defect in ("scratch", "spot", "dent", "inclusion"):
        picture, mask = {"scratch": scratch, "spot": spot, "dent": dent, "inclusion": inclusion}[defect](rng, picture)
    picture = light(rng, picture)
    return Sample(np.round(picture * 255).astype(np.uint8), product, defect, mask)


def field(rng: Generator, size: int, along: float, across: float, angle: float = 0.0) -> Picture:
    """Gaussian noise (size, size) of unit variance, smooth over `along` px at `angle` (radians) and `across` px across it."""
    fy, fx = np.fft.fftfreq(size).astype(np.float32)[:, None], np.fft.rfftfreq(size).astype(np.float32)[None, :]
    u, v = fx * cos(angle) + fy * sin(angle), fy * cos(angle) - fx * sin(angle)
    smooth = np.exp(-2 * pi**2 * ((along * u) ** 2 + (across * v) ** 2))
    white = rng.standard_normal((size, size), dtype=np.float32)
    noise = np.fft.irfft2(np.fft.rfft2(white) * smooth, s=(size, size))
    return (noise - noise.mean()) / noise.std()


def woven(rng: Generator, size: int, gap: bool) -> tuple[Picture, Mask]:
    """A 2/2 twill, dark warp and light weft; with `gap`, one thread is missing over part of the picture."""
    n = size * 2
    y, x = _grid(n) / 2
    angle = radians(rng.normal(0, 1.2))
    wander = [field(rng, size, 40, 40).repeat(2, axis=0).repeat(2, axis=1) for _ in range(2)]
    u = (x * cos(angle) + y * sin(angle) + 1.2 * wander[0]) / THREAD_PX + np.float32(rng.uniform(20, 24))
    v = (y * cos(angle) - x * sin(angle) + 1.2 * wander[1]) / THREAD_PX + np.float32(rng.uniform(20, 24))
    i, j = np.floor(u).astype(np.int32), np.floor(v).astype(np.int32)
    warp_on_top = (i + j) % 4 < 2
    missing = np.zeros((n, n), bool)
    if gap:
        is_warp = rng.random() < 0.5
        thread, position = (i, v) if is_warp else (j, u)
        index = thread.min() + int(rng.uniform(0.2, 0.8) * np.ptp(thread))
        start = position.min() + rng.uniform(-0.2, 0.55) * np.ptp(position)
        end = start + rng.uniform(0.4, 1.0) * np.ptp(position)
        missing = (thread == index) & (position > start) & (position < end)
        warp_on_top = np.where(missing, not is_warp, warp_on_top)
    tones = rng.normal(0, 0.045, (2, 256)).astype(np.float32)
    tone = np.where(warp_on_top, tones[0][i % 256], tones[1][j % 256])
    across, along = np.where(warp_on_top, u - i, v - j), np.where(warp_on_top, v - j, u - i)
    visible = np.where(warp_on_top, (i + j) % 4, (i + j) % 4 - 2)
    shade = _thread(across, along, visible) * (1 + tone) * np.where(missing, np.float32(0.65), np.float32(1))
    colours = np.array([[0.68, 0.70, 0.72], [0.26, 0.33, 0.47]], np.float32)
    grain = 1 + 0.04 * rng.standard_normal((n, n), dtype=np.float32)
    cloth = colours[warp_on_top.astype(np.int8)] * (shade * grain)[..., None]
    return _half(cloth), _half(missing[..., None])[..., 0] > 0.5


def _thread(across: Picture, along: Picture, visible: NDArray[np.int32]) -> Picture:
    profile = np.sqrt(np.maximum(1 - (1.9 * (across - 0.5)) ** 2, np.float32(0.02)))
    crown = 0.72 + 0.28 * np.sin(np.float32(pi / 2) * np.clip(visible + along, 0, 2))
    twist = 1 + 0.07 * np.sin(np.float32(2 * pi) * (2 * along + np.float32(0.9) * across))
    return profile * crown * twist


def _half(picture: NDArray) -> Picture:
    quarters = picture[0::2, 0::2], picture[0::2, 1::2], picture[1::2, 0::2], picture[1::2, 1::2]
    return np.sum([quarter.astype(np.float32) for quarter in quarters], axis=0) / np.float32(4)


def brushed(rng: Generator, size: int) -> Picture:
    """Brushed steel: streaks of several lengths along the brush, and the broad reflection of a tube light."""
    angle = radians(rng.normal(0, 1.5))
    streaks = (
        0.5 * field(rng, size, 90, 0.6, angle)
        + 0.4 * field(rng, size, 30, 0.9, angle)
        + 0.3 * field(rng, size, 160, 2.5, angle)
        + 0.25 * field(rng, size, 6, 0.5, angle)
    )
    y = np.linspace(-1, 1, size, dtype=np.float32)[:, None]
    reflection = np.exp(-(((y - rng.uniform(-0.5, 0.5)) / rng.uniform(0.6, 0.9)) ** 2))
    grey = 0.46 + 0.16 * reflection + 0.055 * streaks * (0.6 + 0.6 * reflection)
    return (grey[..., None] * np.array([0.97, 1.0, 1.03])).astype(np.float32)


def speckled(rng: Generator, size: int) -> Picture:
    """Fine cast stone: a sandy ground with small dark, light and rust grains."""
    ground = 0.62 + 0.02 * field(rng, size, 14, 14) + 0.03 * field(rng, size, 0.7, 0.7)
    picture = ground[..., None] * np.array([1.0, 0.96, 0.90])
    for grain_px, share, colour in (
        (1.3, 1.15, (0.40, 0.38, 0.37)),
        (1.5, 1.35, (0.78, 0.76, 0.72)),
        (1.0, 1.20, (0.48, 0.46, 0.45)),
        (1.4, 1.75, (0.58, 0.44, 0.36)),
    ):
        cover = np.clip((field(rng, size, grain_px, grain_px) - share) * 2.5, 0, 0.9)[..., None]
        picture = picture * (1 - cover) + np.array(colour) * cover
    return picture.astype(np.float32)


def _grid(size: int) -> Picture:
    return np.mgrid[0:size, 0:size].astype(np.float32)  # (2, size, size): y, x


def _place(rng: Generator, size: int) -> tuple[float, float]:
    return float(rng.uniform(0.15, 0.85) * size), float(rng.uniform(0.15, 0.85) * size)


def scratch(rng: Generator, picture: Picture) -> tuple[Picture, Mask]:
    """A curved score line with a bright burr on one side, fading in and out along its length."""
    size = picture.shape[0]
    y, x = _grid(size)
    cy, cx = _place(rng, size)
    angle, bend = rng.uniform(0, pi), rng.normal(0, 0.0012)
    along, across = (x - cx) * cos(angle) + (y - cy) * sin(angle), (y - cy) * cos(angle) - (x - cx) * sin(angle)
    across = across - bend * along**2 + 1.5 * field(rng, size, 25, 25)
    half, width = rng.uniform(0.12, 0.32) * size, rng.uniform(0.9, 1.7)
    ends = np.clip((half - np.abs(along)) / (0.3 * half), 0, 1)
    pressure = ends * np.clip(0.85 + 0.25 * field(rng, size, 10, 10), 0.3, 1.2)
    groove, burr = np.exp(-((across / width) ** 2)), np.exp(-(((across - 1.8 * width) / width) ** 2))
    depth = rng.uniform(0.45, 0.75)
    marked = picture * (1 - depth * pressure * groove)[..., None] + (0.5 * depth * pressure * burr * 0.55)[..., None]
    return marked.astype(np.float32), (np.maximum(groove, burr) * pressure) > 0.3


def spot(rng: Generator, picture: Picture) -> tuple[Picture, Mask]:
    """A stain (oil, dye, rust) with an uneven edge that darkens towards its rim."""
    size = picture.shape[0]
    y, x = _grid(size)
    cy, cx = _place(rng, size)
    radius, stretch = rng.uniform(0.03, 0.06) * size, rng.uniform(0.7, 1.3)
    distance = np.hypot((y - cy) * stretch, (x - cx) / stretch) / radius + 0.18 * field(rng, size, radius / 2, radius / 2)
    cover = np.clip((1.15 - distance) * 3, 0, 1)
    rim = np.exp(-(((distance - 0.95) / 0.22) ** 2))
    tint = np.array([(0.50, 0.36, 0.20), (0.38, 0.38, 0.44), (0.60, 0.32, 0.24)][rng.integers(3)])
    strength = rng.uniform(0.65, 1.0) * np.clip(0.75 * cover + 0.35 * rim * cover, 0, 1)
    return (picture * (1 - strength[..., None] * (1 - tint))).astype(np.float32), cover > 0.3


def dent(rng: Generator, picture: Picture) -> tuple[Picture, Mask]:
    """A shallow dent: light falls on one flank and leaves the other in shade."""
    size = picture.shape[0]
    y, x = _grid(size)
    cy, cx = _place(rng, size)
    radius, angle = rng.uniform(0.035, 0.07) * size, rng.uniform(0.25, 0.75) * pi
    dy, dx = (y - cy) / radius, (x - cx) / radius
    slope = (dx * cos(angle) + dy * sin(angle)) * np.exp(-(dx**2 + dy**2))
    return (picture * (1 + rng.uniform(0.5, 0.9) * slope)[..., None]).astype(np.float32), np.hypot(dy, dx) < 1.5


def inclusion(rng: Generator, picture: Picture) -> tuple[Picture, Mask]:
    """A foreign lump, larger and smoother than any grain, lying in a thin shadow."""
    size = picture.shape[0]
    y, x = _grid(size)
    cy, cx = _place(rng, size)
    radius = rng.uniform(0.03, 0.05) * size
    outline = np.hypot(y - cy, x - cx) / radius + 0.14 * field(rng, size, radius / 2, radius / 2)
    lump, shadow = np.clip((1.0 - outline) * 6, 0, 1)[..., None], np.clip((1.3 - outline) * 3, 0, 1)[..., None]
    shading = 0.85 + 0.25 * ((cx - x) + (cy - y)) / (2 * radius)
    body = np.clip(shading, 0.5, 1.2)[..., None] * np.array([(0.30, 0.27, 0.25), (0.50, 0.40, 0.33)][rng.integers(2)])
    return (picture * (1 - 0.45 * shadow) * (1 - lump) + body * lump).astype(np.float32), lump[..., 0] > 0.3


def light(rng: Generator, picture: Picture) -> Picture:
    """Lamp and camera: a gradient across the picture, vignetting, exposure, white balance, sensor noise."""
    size = picture.shape[0]
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j].astype(np.float32)
    angle = rng.uniform(0, 2 * pi)
    gradient = rng.uniform(0.02, 0.10) * (x * cos(angle) + y * sin(angle))
    vignette = 1 - rng.uniform(0.06, 0.11) * (x**2 + y**2)
    exposure = np.exp(rng.normal(0, 0.03))
    balance = np.exp(rng.normal(0, 0.004, 3))
    lit = picture * ((1 + gradient) * vignette * exposure)[..., None] * balance
    lit = lit + rng.standard_normal(picture.shape) * (0.004 + 0.010 * np.sqrt(np.clip(lit, 0, 1)))
    return np.clip(lit, 0, 1).astype(np.float32)
