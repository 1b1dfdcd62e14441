"""Draws scored images and their heat maps for reports, always on one colour scale per model, never per image."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import duckdb
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from models.maps.content_box import content_box
from models.maps.map_scale import HIGH_PERCENTILE, LOW_PERCENTILE
from models.maps.quantise import dequantise
from models.roi.region import cells_inside
from pipeline.decode.config import DecodeConfig
from pipeline.decode.image import decode_image

SAMPLED_MAPS = 2_000
DIMMED = 0.62
"""Share of the brightness that a picture keeps under a heat map, so that colours show on bright and dark surfaces alike."""

# Black-body colours of rising lightness, from violet to pale yellow: (share of the scale, red, green, blue).
ANCHORS = (
    (0.00, 56, 16, 100),
    (0.20, 111, 25, 110),
    (0.40, 178, 43, 88),
    (0.60, 229, 90, 48),
    (0.80, 251, 157, 22),
    (1.00, 252, 250, 160),
)
PAPER, INK, FAINT = (255, 255, 255), (28, 30, 34), (110, 115, 122)
BOX, BOX_EDGE = (64, 224, 255), (10, 20, 30)
BOXES_DRAWN = 12
LEGEND_PX = 160


@dataclass(frozen=True)
class ColourScale:
    """Map values that get the first and the last colour, and one phrase that says what they are of the maps from where."""

    low: float
    high: float
    basis: str

    def share(self, values: np.ndarray) -> np.ndarray:
        """Position on the scale, clipped to [0, 1], float64 of the same shape."""
        span = self.high - self.low
        return np.clip((values - self.low) / (span if span > 0 else 1.0), 0.0, 1.0)


class Box(NamedTuple):
    """The box of a region, in pixels of the stored image; x1 and y1 exclusive."""

    x0: int
    y0: int
    x1: int
    y1: int


@dataclass(frozen=True)
class StoredMap:
    """A row of the maps table."""

    map: bytes
    map_height: int
    map_width: int
    map_scale: float
    map_offset: float

    def values(self) -> np.ndarray:
        """(map_height, map_width) float32."""
        return dequantise(self.map, self.map_height, self.map_width, self.map_scale, self.map_offset)


def colour_scale(connection: duckdb.DuckDBPyConnection, model: str, run_id: str, config: DecodeConfig) -> ColourScale | None:
    """The scale from percentiles of a run's map values, for a model whose calibration has none; None without maps.

    Args:
        connection: with the views of pipeline/tables/query.py.
        config: of the scoring run; cells outside its region of interest do not count.
    """
    rows = connection.execute(
        "select map, map_height, map_width, map_scale, map_offset from maps semi join "
        "(select * from scores where model = $model and run_id = $run_id) using (model, date, unit_id, image_id) "
        f"order by hash(image_id) limit {SAMPLED_MAPS}",
        {"model": model, "run_id": run_id},
    ).fetchall()
    if not rows:
        return None
    maps = [StoredMap(*row).values() for row in rows]
    inside = {cells.shape: cells_inside(config, cells.shape) for cells in maps}
    values = np.concatenate([(cells if (mask := inside[cells.shape]) is None else cells[mask]).ravel() for cells in maps])
    low, high = np.percentile(values, [LOW_PERCENTILE, HIGH_PERCENTILE])
    images = f"{len(rows):,} images of " if len(rows) == SAMPLED_MAPS else ""
    basis = f"50 to 99.9 % of {images}this scoring run, since the maps are not calibrated"
    return ColourScale(float(low), float(high), basis)


def colours(share: np.ndarray) -> np.ndarray:
    """(..., 3) float64 RGB in 0 to 255 for positions on the scale."""
    positions = [anchor[0] for anchor in ANCHORS]
    return np.stack([np.interp(share, positions, [anchor[i] for anchor in ANCHORS]) for i in (1, 2, 3)], axis=-1)


def colour_bar(width_px: int, height_px: int) -> Image.Image:
    """The colours from the first, left, to the last."""
    shares = np.linspace(0, 1, width_px)[None].repeat(height_px, 0)  # (height_px, width_px)
    return Image.fromarray(np.rint(colours(shares)).astype(np.uint8))


def picture(encoded: bytes, size: tuple[int, int], config: DecodeConfig, longest_px: int) -> Image.Image:
    """The stored image upright, RGB, its longer side `longest_px` (small ones are enlarged at most twice).

    Args:
        size: (width, height) of the stored image, px.
        config: config of the scoring run; its size and resize are replaced, and all of the image is shown.
    Raises:
        Undecodable: the bytes are not an image.
    """
    scale = min(longest_px / max(size), 2.0)
    width, height = (max(1, round(side * scale)) for side in size)
    shown = config.model_copy(update={"width": width, "height": height, "resize": "squash", "roi": None})
    return Image.fromarray(decode_image(encoded, shown).pixels)


def heat_map(
    background: Image.Image, stored: StoredMap, size: tuple[int, int], config: DecodeConfig, scale: ColourScale
) -> Image.Image:
    """The picture in dimmed grey under the map's colours, in the same size; low values on the scale let it show through.

    Args:
        size: (width, height) of the stored image, px: tells which part of a padded input shows it.
    """
    shown = content_box(size, config)
    across, down = stored.map_width / config.width, stored.map_height / config.height
    box = (shown.left * across, shown.top * down, shown.right * across, shown.bottom * down)
    values = Image.fromarray(stored.values()).resize(background.size, Image.Resampling.BILINEAR, box=box)
    share = scale.share(np.asarray(values))  # (h, w)
    grey = np.asarray(background.convert("L"), np.float64)[..., None] * DIMMED  # (h, w, 1)
    opacity = 0.9 * share[..., None] ** 0.75  # (h, w, 1)
    blended = grey * (1.0 - opacity) + colours(share) * opacity  # (h, w, 3)
    return Image.fromarray(np.rint(blended).astype(np.uint8))


def outlined(shown: Image.Image, boxes: Sequence[Box], size: tuple[int, int]) -> Image.Image:
    """A copy of the picture with lines just outside the first `BOXES_DRAWN` boxes, so that they hide nothing inside.

    Args:
        size: (width, height) of the stored image, px.
    """
    shown = shown.copy()
    draw = ImageDraw.Draw(shown)
    across, down = shown.width / size[0], shown.height / size[1]
    for box in reversed(boxes[:BOXES_DRAWN]):
        left, top = math.floor(box.x0 * across), math.floor(box.y0 * down)
        right, bottom = math.ceil(box.x1 * across) - 1, math.ceil(box.y1 * down) - 1
        for outside, colour in ((3, BOX_EDGE), (2, BOX), (1, BOX)):  # px from the box, within the picture
            corners = (max(left - outside, 0), max(top - outside, 0))
            opposite = (min(right + outside, shown.width - 1), min(bottom + outside, shown.height - 1))
            draw.rectangle((*corners, *opposite), outline=colour)
    return shown


@dataclass(frozen=True)
class Shown:
    """One image of a report: its pictures, or a sentence why there are none. verdict: in a word, "" without one."""

    rank: int
    score: float
    caption: str
    picture: Image.Image | None
    heat_map: Image.Image | None
    missing: str = ""
    verdict: str = ""


def contact_sheet(
    images: list[Shown], title: str, subtitle: str, scale: ColourScale | None, columns: int = 4, side_px: int = 200
) -> Image.Image:
    """Draws all in one picture: each image beside its heat map, with rank, score and caption below, worst first.

    scale: of the heat maps, for the legend; None if there are none.
    """
    gap, text_px, head_px = 18, 40, 76 if scale is None else 102
    cell_width, cell_height = 2 * side_px + 4, side_px + text_px
    columns = max(1, min(columns, len(images)))
    rows = -(-len(images) // columns)
    large, plain, small = (ImageFont.load_default(size) for size in (22, 15, 13))
    low, high = ("", "") if scale is None else (f"{scale.low:.3g} ", f" {scale.high:.3g} and above: {scale.basis}")
    bar_left = gap + math.ceil(small.getlength(low))
    bar_right = bar_left + (0 if scale is None else LEGEND_PX)
    ends = (gap + large.getlength(title), gap + small.getlength(subtitle), bar_right + small.getlength(high))
    width = max(columns * (cell_width + gap), math.ceil(max(ends))) + gap
    sheet = Image.new("RGB", (width, head_px + rows * (cell_height + gap) + gap), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((gap, 14), title, INK, large)
    draw.text((gap, 46), subtitle, FAINT, small)
    if scale is not None:
        draw.text((gap, 70), low, FAINT, small)
        sheet.paste(colour_bar(LEGEND_PX, 12), (bar_left, 72))
        draw.text((bar_right, 70), high, FAINT, small)
    for i, shown in enumerate(images):
        left = gap + i % columns * (cell_width + gap)
        top = head_px + i // columns * (cell_height + gap)
        for j, part in enumerate((shown.picture, shown.heat_map)):
            corner = left + j * (side_px + 4)
            draw.rectangle((corner, top, corner + side_px - 1, top + side_px - 1), (236, 238, 241))
            if part is not None:
                fitted = part.copy()
                fitted.thumbnail((side_px, side_px))
                sheet.paste(fitted, (corner + (side_px - fitted.width) // 2, top + (side_px - fitted.height) // 2))
        if shown.picture is None:
            draw.text((left + 8, top + side_px // 2 - 8), _cut(shown.missing, small, cell_width - 16), FAINT, small)
        said = f"  {shown.verdict}" if shown.verdict else ""
        draw.text((left, top + side_px + 4), f"{shown.rank}.  score {shown.score:.4g}{said}", INK, plain)
        draw.text((left, top + side_px + 23), _cut(shown.caption, small, cell_width), FAINT, small)
    return sheet


def _cut(text: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, width_px: int) -> str:
    """The text, without its start where it is too wide."""
    if font.getlength(text) <= width_px:
        return text
    while text and font.getlength("..." + text) > width_px:
        text = text[1:]
    return "..." + text
