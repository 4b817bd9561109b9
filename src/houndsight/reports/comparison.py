"""The page of two jobs: drawn and written from a `compare.Comparison`."""

from typing import Any

from houndsight.folders import JobFolder
from houndsight.reports import compare, course, html, words
from houndsight.reports.chart import Chart
from houndsight.reports.compare import Comparison, Paired
from houndsight.reports.numbers import percent, plural
from houndsight.workspace import Workspace, atomic_write, write_json

COLOURS = ("var(--train)", "var(--valid)")
"""The first job's and the second one's colour."""
LEVEL = 0.05
"""A difference that chance makes less often than this is called one."""


def build(first: JobFolder, second: JobFolder, place: Workspace) -> Comparison:
    """Write the page and its twin into the first job's folder, each whole or not at all."""
    found = compare.gather(first, second)
    page = first.comparison(second.name)
    write_json(compare.twin(page), found)
    text = render(found, place)
    with atomic_write(page) as file:
        file.write(text.encode())
    return found


def render(found: Comparison, place: Workspace) -> str:
    """The comparison as HTML."""
    drawn = draw(found)
    return html.fill(
        "compare.html",
        drawn,
        place,
        page=found,
        answer=answer(found),
        names=html.METRICS,
        colours=COLOURS,
        sections=_sections(found, drawn),
        faster=_faster(found),
    )


def draw(found: Comparison) -> dict[str, Chart]:
    """A chart for each scalar that both recorded; those of one name share their steps."""
    charts: list[Chart] = []
    for both in found.curves:
        curves = [both.a.model_copy(update={"mode": found.a}), both.b.model_copy(update={"mode": found.b})]
        if found.a == found.b or not all(any(p.value is not None for p in each.points) for each in curves):
            continue
        title = f"{course.title(both.name)}, {words.SPLITS.get(both.mode, both.mode)}"
        chosen = dict(zip((found.a, found.b), COLOURS, strict=True))
        charts.append(course.overlaid(f"curve-{len(charts)}", title, both.name, curves, chosen))
    return {each.id: each for each in charts}


def answer(found: Comparison) -> dict[str, str]:
    """Which of the two is better: `tone`, `headline` and `detail`."""
    if not found.paired:
        detail = "The two were measured on no image in common, so that their numbers cannot be compared pair by pair."
        return {"tone": "quiet", "headline": "Not comparable", "detail": detail}
    first = found.paired[0]
    split = words.SPLITS.get(first.split, first.split)
    detail = f"On {plural(first.images, f'common {split} image')}: {said(first)}. "
    detail += f"Chance alone would make as large a difference in {percent(first.p_value)} of such comparisons."
    if first.p_value >= LEVEL:
        return {"tone": "quiet", "headline": "Not told apart", "detail": detail}
    better = found.b if first.difference.value > 0 else found.a
    points = f"{100 * abs(first.difference.value):.1f}"
    return {"tone": "good", "headline": f"{better} is better by {points} points", "detail": detail}


def said(pair: Paired) -> str:
    """The difference with its interval, in points."""
    low, high = 100 * pair.difference.low, 100 * pair.difference.high
    return f"second minus first {100 * pair.difference.value:+.1f} points, 95 % interval {low:+.1f} to {high:+.1f}"


def _faster(found: Comparison) -> dict[str, str]:
    step = next((each for each in found.speed if each.name == "images_per_second" and each.ratio), None)
    step = step or next((each for each in found.speed if each.name == "wall" and each.ratio), None)
    if step is None or not step.ratio:
        return {"tone": "quiet", "headline": "Not measured", "detail": "One of the two has no times."}
    factor = step.ratio if step.name == "images_per_second" else 1 / step.ratio
    name, factor = (found.b, factor) if factor >= 1 else (found.a, 1 / factor)
    what = "images a second" if step.name == "images_per_second" else "of the whole run"
    if factor < 1.03:
        return {"tone": "quiet", "headline": "Equally fast", "detail": f"Measured in {what}."}
    return {"tone": "good", "headline": f"{name}, {factor:.1f}×", "detail": f"Measured in {what}."}


def _sections(found: Comparison, drawn: dict[str, Any]) -> list[tuple[str, str]]:
    there = {
        "settings": ("Settings", True),
        "accuracy": ("Accuracy", bool(found.paired or found.metrics)),
        "curves": ("Curves", bool(drawn)),
        "speed": ("Speed", bool(found.speed or found.phases)),
        "layers": ("Layers", any(found.layers.values())),
        "rules": ("Rules", any(found.rules.values())),
    }
    return [(name, title) for name, (title, present) in there.items() if present]
