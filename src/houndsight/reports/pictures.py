"""Pictures of a page as text inside it: thumbnails of images, and lines as small as a word."""

import base64
from collections.abc import Iterable
from pathlib import Path

from markupsafe import Markup, escape

from houndsight.reports.numbers import number
from houndsight.reports.watched import Line

BYTES = 200_000
"""Most bytes of pictures of one kind on a page, before base64 makes them a third larger: with three kinds 0.8 MB."""
WIDTH, HEIGHT, EDGE = 180, 40, 3


def embed(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """The data URI of each picture in `folder`, the first ones until the page has enough bytes of them.

    Only JPEG files inside the folder are taken.
    """
    found: dict[str, str] = {}
    budget = BYTES
    for name in names:
        path = (folder / name).resolve()
        if not name or not path.is_relative_to(folder.resolve()) or not path.is_file() or path.stat().st_size > budget:
            continue
        data = path.read_bytes()
        if data.startswith(b"\xff\xd8\xff"):
            budget -= len(data)
            found[name] = "data:image/jpeg;base64," + base64.b64encode(data).decode()
    return found


def spark(line: Line) -> Markup:
    """The line as a small SVG with its range in words; the step of the finding is marked."""
    known = [(step, value) for step, value in zip(line.steps, line.values, strict=True) if value is not None]
    low, high = min(value for _, value in known), max(value for _, value in known)
    first, last = line.steps[0], max(line.steps[-1], line.steps[0] + 1)

    def across(step: float) -> float:
        return EDGE + (WIDTH - 2 * EDGE) * (step - first) / (last - first)

    def down(value: float) -> float:
        return HEIGHT - EDGE - (HEIGHT - 2 * EDGE) * ((value - low) / (high - low) if high > low else 0.5)

    points = " ".join(f"{across(step):.1f},{down(value):.1f}" for step, value in known)
    mark = ""
    if line.step is not None and first <= line.step <= last:
        x = across(line.step)
        mark = f'<line class="at" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{HEIGHT}"/>'
    said = f"{line.label}, steps {line.steps[0]} to {line.steps[-1]}: {number(low)} to {number(high)}"
    return Markup(  # noqa: S704 - numbers, and words that are escaped
        f'<figure class="spark"><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(said)}">{mark}'
        f'<polyline points="{points}"/></svg><figcaption>{escape(line.label)}<br>'
        f"<span>{number(low)} to {number(high)}</span></figcaption></figure>"
    )
