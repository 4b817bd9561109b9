"""Curves of single tensors as one picture: `tensors.svg` in a job's folder; made when it is asked for."""

from collections.abc import Sequence
from html import escape
from math import floor, log10

import numpy as np
from numpy.typing import NDArray

Curve = tuple[str, NDArray[np.int64], NDArray[np.float32]]
"""Name, steps (n,) and values (n,)."""

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 960, 420, 84, 36, 40
COLOURS = ("#2563eb", "#dc2626", "#16a34a", "#9333ea", "#ea580c", "#0891b2", "#be185d", "#65a30d", "#475569", "#a16207")
MOST = 20
"""Curves in one picture: more cannot be told apart."""
DOTS = 60  # points up to which each has a dot


def draw(title: str, curves: Sequence[Curve]) -> str:
    """An SVG of at most `MOST` curves over the steps; the scale is logarithmic where all values are positive and far
    apart. Values that are not finite are gaps.
    """
    shown = curves[:MOST]
    values = np.concatenate([each[2][np.isfinite(each[2])] for each in shown])
    steps = np.concatenate([each[1] for each in shown])
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    logarithmic = low > 0 and high / low > 30
    if logarithmic:
        low, high = log10(low), log10(high)
    if high - low < 1e-12:
        low, high = low - 0.5 * (abs(low) or 1), high + 0.5 * (abs(high) or 1)
    first, last = int(steps.min()), max(int(steps.max()), int(steps.min()) + 1)
    down = HEIGHT - BOTTOM

    def place(step: float, value: float) -> tuple[float, float]:
        return LEFT + (WIDTH - LEFT - 16) * (step - first) / (last - first), down - (down - TOP) * (value - low) / (
            high - low
        )

    height = HEIGHT + 18 * len(shown) + 12
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}">',
        '<g font-family="system-ui, sans-serif" font-size="12" fill="#334155">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text x="{LEFT}" y="20" font-size="14">{escape(title)}</text>',
    ]
    for tick in _ticks(low, high, logarithmic=logarithmic):
        y = place(first, tick)[1]
        said = f"{10**tick:.0e}" if logarithmic else f"{tick:.3g}"
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - 16}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e2e8f0"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{said}</text>')
    for tick in _ticks(first, last, logarithmic=False):
        x = place(tick, low)[0]
        parts.append(f'<text x="{x:.1f}" y="{down + 18}" text-anchor="middle">{tick:g}</text>')
    parts.append(f'<text x="{WIDTH - 16}" y="{down + 34}" text-anchor="end">step</text>')
    for number, (name, at, numbers) in enumerate(shown):
        colour = COLOURS[number % len(COLOURS)]
        heights = np.log10(np.where(numbers > 0, numbers, np.nan)) if logarithmic else numbers
        for run in _runs(at, heights):
            points = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*each) for each in run))
            parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.4"/>')
            for x, y in (place(*each) for each in (run if len(run) < DOTS else [])):
                parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2" fill="{colour}"/>')
        y = HEIGHT + 18 * number + 12
        parts.append(f'<rect x="{LEFT}" y="{y - 9}" width="10" height="10" fill="{colour}"/>')
        parts.append(f'<text x="{LEFT + 18}" y="{y}">{escape(name)}</text>')
    return "\n".join([*parts, "</g>", "</svg>", ""])


def _runs(steps: NDArray[np.int64], values: NDArray[np.floating]) -> list[list[tuple[int, float]]]:
    """The stretches of the curve without a gap."""
    runs: list[list[tuple[int, float]]] = [[]]
    for step, value in zip(steps.tolist(), values.tolist(), strict=True):
        if np.isfinite(value):
            runs[-1].append((step, value))
        elif runs[-1]:
            runs.append([])
    return [each for each in runs if each]


def _ticks(low: float, high: float, *, logarithmic: bool) -> list[float]:
    if logarithmic:
        each = max(1, round((high - low) / 6))
        inside = [float(power) for power in range(floor(low), floor(high) + 2, each) if low <= power <= high]
        if len(inside) > 1:
            return inside
    raw = (high - low) / 5
    size = 10 ** floor(log10(raw))
    unit = next(size * step for step in (1, 2, 5, 10) if size * step >= raw)
    start = np.ceil(low / unit) * unit
    return [float(tick) for tick in np.arange(start, high + unit / 1e6, unit)]
