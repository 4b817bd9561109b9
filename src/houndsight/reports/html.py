"""From a `Page` to one HTML file that needs nothing but itself: styles, scripts, data and pictures are all inside it.

The page forbids itself every request and every script but its own two (Content-Security-Policy with their hashes), so
that nothing in a job folder, class names and paths included, can act when the page is opened.
"""

import json
import re
import shlex
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from houndsight.folders import JobFolder, thumbnail_name
from houndsight.reports import bundle, charts, course, heat, limits, numbers, pictures, words
from houndsight.reports.chart import Chart
from houndsight.reports.heat import Heat
from houndsight.reports.page import Page, Result
from houndsight.results import Measure
from houndsight.workspace import Workspace

METRICS = {
    "top1": ("Accuracy", "images whose most probable class is right"),
    "top5": ("Top-5 accuracy", "images whose right class is among the five most probable"),
    "balanced_accuracy": ("Balanced accuracy", "mean recall over classes, each counting the same"),
    "macro_f1": ("Macro F1", "mean F1 over classes"),
    "ece": ("Calibration error", "mean distance between stated confidence and accuracy, as served"),
    "ece_uncalibrated": ("Calibration error before scaling", "the same without temperature scaling"),
    "loss": ("Loss", "cross-entropy per image"),
    "loss_uncalibrated": ("Loss before scaling", "the same without temperature scaling"),
}
"""Metrics in the order of the page: name and meaning."""


def render(page: Page, job: JobFolder) -> str:
    """The page as HTML; pictures are read from the job's folder."""
    main = page.results[0] if page.results else None
    metrics, floor = _metric_rows(page.results)
    drawn = charts.draw(page)
    maps = heat.draw(page.tensors, page.machine)
    mistakes = main.mistakes if main else ()
    named = [file for each in page.findings for file in each.files]
    return _whole(
        "page.html",
        drawn,
        maps,
        bundle.cache_of(job),
        page=page,
        main=main,
        curve_charts=[each for each in drawn.values() if each.id.startswith("curve-")],
        metric_charts=[each for each in drawn.values() if each.id.startswith("metric-")],
        machine_charts=[each for each in drawn.values() if each.id.startswith("machine-")],
        layer_maps=[each for each in maps.values() if each.id != "map-cores"],
        step_curves=[each for each in page.curves if each.mode != course.SCRIPT],
        lines={(each.rule, each.step): each for each in page.evidence},
        metrics=metrics,
        floor=floor,
        colours=course.kind_colours(page.time) if page.time else {},
        pictures=pictures.embed(job.evaluation, (each.thumbnail for each in mistakes)),
        heated=pictures.embed(job.evaluation, (each.heat for each in mistakes)),
        thumbnails=pictures.embed(job.thumbnails, map(thumbnail_name, dict.fromkeys(named))),
        taken_for=_taken_for(main) if main else {},
        sections=_sections(page, main, drawn),
        train_counts={each.name: each.counts.get("train", 0) for each in page.data.classes} if page.data else {},
    )


def fill(template: str, drawn: dict[str, Chart], workspace: Workspace, **values: Any) -> str:
    """Another template as a page of the same kind: whole in itself, with the charts in `drawn`, without requests."""
    return _whole(template, drawn, {}, workspace.cache / "report", **values)


def _whole(template: str, drawn: dict[str, Chart], maps: dict[str, Heat], cached: Path | None, **values: Any) -> str:
    library, script = bundle.bundle(cached) if drawn else "", _text("page.js")
    return (
        _environment()
        .get_template(template)
        .render(
            charts=drawn,
            maps=maps,
            chart_data=_script_json({each.id: {"spec": each.spec, "zoom": each.zoom} for each in drawn.values()}),
            map_data=_script_json({each.id: each.payload for each in maps.values()}),
            style=Markup(_text("style.css")),  # noqa: S704 - our own file
            bundle=Markup(library),  # noqa: S704 - our own file
            script=Markup(script),  # noqa: S704 - our own file
            policy=bundle.policy(library, script) if drawn else bundle.policy(script),
            **values,
        )
    )


def _sections(page: Page, main: Result | None, drawn: dict[str, Chart]) -> list[tuple[str, str]]:
    """(id, title) of the sections that the page has, in its order."""
    there = {
        "failure": ("Log" if page.script else "Failure", page.failure is not None),
        "metrics": ("Metrics", page.script is not None and bool(page.script.metrics)),
        "output": ("Output", page.script is not None and bool(page.script.archives)),
        "findings": ("Rules", bool(page.findings)),
        "data": ("Data", page.data is not None),
        "curves": ("Curves", any(each.mode != course.SCRIPT for each in page.curves)),
        "layers": ("Layers", page.tensors is not None and bool(page.tensors.maps)),
        "time": ("Time", page.time is not None),
        "machine": ("Machine", page.machine is not None),
        "results": ("Results", main is not None),
        "confusion-section": ("Confusion", main is not None),
        "mistakes": ("Mistakes", main is not None and bool(main.mistakes)),
        "classes": ("Classes", main is not None and bool(main.per_class)),
        "calibration": ("Calibration", "reliability" in drawn),
        "run": ("Run", page.run is not None),
    }
    return [(name, title) for name, (title, present) in there.items() if present]


def _taken_for(result: Result) -> dict[str, str]:
    """Of each class, what its images were most often taken for, and how often."""
    found: dict[str, str] = {}
    for cell in sorted(result.cells, key=lambda each: -each.count):
        name = result.classes[cell.label]
        if cell.label != cell.predicted and name not in found:
            found[name] = f"{result.classes[cell.predicted]} ({cell.count})"
    return found


def _metric_rows(results: tuple[Result, ...]) -> tuple[list[dict[str, Any]], float]:
    """One row a metric with the numbers of every split, and the left end of the axis that shares are shown on."""
    counted = ("top1", "top5", "balanced_accuracy", "macro_f1")
    main = [measure for name, measure in (results[0].metrics if results else {}).items() if name in counted]
    floor = min(0.9, max(0, int(10 * min((each.low for each in main), default=0.0))) / 10)
    rows = []
    for name, (title, meaning) in METRICS.items():
        splits = {each.split: _measured(each.metrics[name], name) for each in results if name in each.metrics}
        if not splits:
            continue
        first = results[0].metrics.get(name) if name in counted else None
        whisker = _whisker(first, floor) if first else None
        rows.append({"name": name, "title": title, "meaning": meaning, "splits": splits, "whisker": whisker})
    return rows, floor


def _measured(measure: Measure, name: str) -> dict[str, str]:
    say = numbers.number if name.startswith("loss") else numbers.percent
    return {"value": say(measure.value), "low": say(measure.low), "high": say(measure.high)}


def _whisker(measure: Measure, floor: float) -> dict[str, float]:
    """left, width and value in percent of an axis from `floor` to 1."""
    low, value, high = (
        round(100 * max(0.0, min(1.0, (each - floor) / (1 - floor))), 2)
        for each in (measure.low, measure.value, measure.high)
    )
    return {"left": low, "width": round(high - low, 2), "value": value}


def _script_json(document: Any) -> Markup:
    """JSON that may stand inside a script element whatever it holds."""
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704 - no character is left that could end the element


@cache
def _text(name: str) -> str:
    return (Path(__file__).parent / "templates" / name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("houndsight.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": numbers.percent,
        "count": numbers.count,
        "number": numbers.number,
        "duration": numbers.duration,
        "size": numbers.size,
        "plain": _plain,
        "whisker": _whisker,
        "prose": _prose,
        "breakable": _breakable,
        "typed": lambda value: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False),
        "shell": shlex.join,
        "spark": pictures.spark,
        "thumbnail_name": thumbnail_name,
        "cause": lambda name: limits.CAUSES.get(name, name.replace("_", " ").capitalize()),
    }
    environment.globals |= {"plural": numbers.plural, "splits": words.SPLITS}
    return environment


def _plain(value: Any) -> str:
    """A setting's value as one would type it."""
    if isinstance(value, dict):
        text = ", ".join(f"{key}={each}" for key, each in value.items())
    else:
        text = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return "–" if value is None or not text else text


def _prose(text: str) -> Markup:
    """A sentence whose `code` is set as code."""
    return Markup(re.sub(r"`([^`\n]+)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704 - escaped before


def _breakable(text: str) -> Markup:
    """A name that may go on in the next line after `_`, `.`, `-` and `/`."""
    return Markup("<wbr>").join(re.findall(r"[^_./-]*[_./-]|[^_./-]+$", text))


def read_templates() -> None:
    """Compile every template ahead of the first page, 0.1 s of CPU: for a process that forks those that make pages."""
    environment = _environment()
    for name in environment.list_templates(extensions=["html"]):
        environment.get_template(name)
