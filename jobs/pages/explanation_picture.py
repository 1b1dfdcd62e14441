"""The picture of one explanation: the image, the map over it, and the colours with their numbers."""

import math
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pipeline.report.pictures import DIMMED, FAINT, INK, PAPER, ColourScale, colours

MIN_SIDE_PX = 320
GAP, HEAD_PX, BAR_PX, NUMBERS_PX, FOOT_PX = 16, 76, 16, 78, 24
STRIP_PX, FRAME_PX = 24, 4
WARNING, REMARK, NOTICE_INK = (176, 32, 32), (84, 90, 98), (255, 255, 255)


class Notice(NamedTuple):
    """A few words that stand on a map itself, so that nobody sees it without them. warning: they are red, and so is a frame."""

    words: str
    warning: bool


def draw(
    pixels: np.ndarray, relevance: np.ndarray, title: list[str], scale: ColourScale, notice: Notice | None = None
) -> Image.Image:
    """Draw one picture; the line at its foot says what the scale's ends are.

    Args:
        pixels: (H, W, 3) uint8. relevance: (H, W) float32, finite. title: three lines; the first is large.
    """
    enlarged = max(1, round(MIN_SIDE_PX / min(pixels.shape[:2])))
    height, width = (side * enlarged for side in pixels.shape[:2])
    image = Image.fromarray(pixels).resize((width, height), Image.Resampling.NEAREST)
    share = np.asarray(Image.fromarray(scale.share(relevance).astype(np.float32)).resize((width, height)))  # (h, w)
    grey = np.asarray(image.convert("L"), np.float64)[..., None] * DIMMED  # (h, w, 1)
    opacity = 0.9 * np.clip(share, 0, 1)[..., None] ** 0.75  # (h, w, 1)
    overlay = Image.fromarray(np.rint(grey * (1 - opacity) + colours(share) * opacity).astype(np.uint8))
    large, small = ImageFont.load_default(16), ImageFont.load_default(13)
    widest = math.ceil(max(large.getlength(title[0]), *(small.getlength(line) for line in title[1:])))
    across = max(2 * width + 4 * GAP + BAR_PX + NUMBERS_PX, widest + 2 * GAP)
    sheet = Image.new("RGB", (across, height + HEAD_PX + FOOT_PX + GAP), PAPER)
    pen = ImageDraw.Draw(sheet)
    for line, top in zip(title, (10, 32, 51), strict=True):
        pen.text((GAP, top), line, INK if top == 10 else FAINT, large if top == 10 else small)
    sheet.paste(image, (GAP, HEAD_PX))
    sheet.paste(overlay, (2 * GAP + width, HEAD_PX))
    if notice is not None:
        _put(pen, (2 * GAP + width, HEAD_PX), overlay.size, notice)
    left = 3 * GAP + 2 * width
    bar = colours(np.linspace(1, 0, height)[:, None].repeat(BAR_PX, 1))  # (h, BAR_PX, 3)
    sheet.paste(Image.fromarray(np.rint(bar).astype(np.uint8)), (left, HEAD_PX))
    for part in (0.0, 0.5, 1.0):
        value = scale.low + part * (scale.high - scale.low)
        top = HEAD_PX + round((1 - part) * (height - 14))
        pen.text((left + BAR_PX + 6, top - 1), f"{value:.3g}", INK, small)
    ends = f"colours from {scale.low:.3g} to {scale.high:.3g}: {scale.basis}"
    pen.text((GAP, HEAD_PX + height + 8), ends, FAINT, small)
    return sheet


def _put(pen: ImageDraw.ImageDraw, corner: tuple[int, int], size: tuple[int, int], notice: Notice) -> None:
    """The words in a strip along the map's upper edge, as large as they fit."""
    (left, top), (width, height) = corner, size
    if notice.warning:
        pen.rectangle((left, top, left + width - 1, top + height - 1), outline=WARNING, width=FRAME_PX)
    pen.rectangle((left, top, left + width - 1, top + STRIP_PX - 1), fill=WARNING if notice.warning else REMARK)
    fonts = (ImageFont.load_default(px) for px in range(15, 5, -1))
    font = next((font for font in fonts if font.getlength(notice.words) <= width - 4 * FRAME_PX), ImageFont.load_default(6))
    pen.text((left + width / 2, top + STRIP_PX / 2), notice.words, NOTICE_INK, font, anchor="mm")
