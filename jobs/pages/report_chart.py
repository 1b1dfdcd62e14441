"""Draws the score histogram as inline SVG: no script, no library, colours from the page's style sheet."""

import math
from collections.abc import Callable
from html import escape

from pipeline.report.facts import Histogram

WIDTH, HEIGHT = 960, 270
LEFT, RIGHT, TOP, BOTTOM = 62, 14, 44, 44


def histogram_svg(histogram: Histogram, logarithmic: bool) -> str:
    """The SVG: bars of image counts over score, with quantiles marked; the axis of counts is linear or logarithmic."""
    inner_width, inner_height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    top_count = max(histogram.counts)
    height_of = _logarithmic(top_count) if logarithmic else lambda count: count / top_count
    span = (histogram.high - histogram.low) or 1.0

    def x(score: float) -> float:
        return LEFT + inner_width * (score - histogram.low) / span

    def y(count: float) -> float:
        return TOP + inner_height * (1.0 - height_of(count))

    base = TOP + inner_height
    bar = inner_width / len(histogram.counts)
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="Histogram of scores, '
        f'{"logarithmic" if logarithmic else "linear"} counts">'
    ]
    for count in _powers(top_count) if logarithmic else _ticks(0, top_count, 4):
        if count <= top_count:
            parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(count):.1f}" y2="{y(count):.1f}"/>')
            parts.append(f'<text class="tick" x="{LEFT - 8}" y="{y(count) + 4:.1f}" text-anchor="end">{count:,.0f}</text>')
    for i, count in enumerate(histogram.counts):
        if count:
            low, high = (histogram.low + span * j / len(histogram.counts) for j in (i, i + 1))
            tall = max(base - y(count), 1.5)
            parts.append(
                f'<rect class="bar" x="{LEFT + i * bar + 0.5:.1f}" y="{base - tall:.1f}" width="{max(bar - 1, 0.5):.1f}" '
                f'height="{tall:.1f}"><title>{count:,} images, score {low:.4g} to {high:.4g}</title></rect>'
            )
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{base}" y2="{base}"/>')
    for score in _ticks(histogram.low, histogram.high, 8):
        if histogram.low <= score <= histogram.high:
            parts.append(f'<text class="tick" x="{x(score):.1f}" y="{base + 18}" text-anchor="middle">{score:.4g}</text>')
    parts.append(f'<text class="tick" x="{LEFT}" y="{HEIGHT - 4}">raw score: higher is more anomalous</text>')
    parts.append(f'<text class="tick" x="{LEFT - 8}" y="14" text-anchor="end">images</text>')
    parts += _marks(histogram, x, base)
    return "".join(parts) + "</svg>"


def _marks(histogram: Histogram, x: Callable[[float], float], base: float) -> list[str]:
    """Lines at the quantiles; a label that would overlap the previous one moves a line down."""
    parts, taken, low_line = [], [-1e9, -1e9], False
    for share, score in sorted(histogram.quantiles.items()):
        name = "median" if share == 0.5 else f"{100 * share:.4g} %"
        text = escape(f"{name}: {score:.4g}")
        position = x(score)
        anchor = "end" if position > WIDTH - 150 else "start"
        start = position - 6.5 * len(text) if anchor == "end" else position
        low_line = start < taken[0] + 8 and taken[1] <= taken[0]
        line = 1 if low_line else 0
        taken[line] = start + 6.5 * len(text)
        offset = -5 if anchor == "end" else 5
        parts.append(f'<line class="mark" x1="{position:.1f}" x2="{position:.1f}" y1="{TOP - 30 + 15 * line}" y2="{base}"/>')
        parts.append(
            f'<text class="label" x="{position + offset:.1f}" y="{TOP - 20 + 15 * line}" text-anchor="{anchor}">{text}</text>'
        )
    return parts


def _logarithmic(top_count: int) -> Callable[[float], float]:
    top = math.log10(top_count) + 1.0
    return lambda count: (math.log10(count) + 1.0) / top if count >= 1 else 0.0


def _powers(top_count: int) -> list[int]:
    return [10**i for i in range(math.floor(math.log10(top_count)) + 1)]


def _ticks(low: float, high: float, about: int) -> list[float]:
    """About `about` round numbers that cover low to high."""
    rough = ((high - low) or 1.0) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough)
    first = math.ceil(low / step)
    return [i * step for i in range(first, first + about + 2)]
