"""From a `Page` to one HTML file that needs nothing but itself: styles, scripts, data and pictures are all inside it.

The page forbids itself every request and every script but its own two (Content-Security-Policy with their hashes), so
that nothing in a job folder, class names and paths included, can act when the page is opened.
"""

import base64
import hashlib
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from houndsight.reports import charts, words
from houndsight.reports.page import Mistake, Page, Result
from houndsight.workspace import JobFolder, Workspace, atomic_write

PICTURES = 700_000
"""Most bytes of pictures on the page, before base64 makes them a third larger."""

METRICS = {
    "top1": ("Accuracy", "images whose most probable class is right"),
    "top5": ("Top-5 accuracy", "images whose right class is among the five most probable"),
    "balanced_accuracy": ("Balanced accuracy", "mean recall over classes, each counting the same"),
    "macro_f1": ("Macro F1", "mean F1 over classes"),
    "ece": ("Calibration error", "mean distance between stated confidence and accuracy, as served"),
    "ece_uncalibrated": ("Calibration error before scaling", "the same without temperature scaling"),
    "loss": ("Loss", "cross-entropy per image"),
}
"""Metrics in the order of the page: name and meaning."""


def render(page: Page, job: JobFolder) -> str:
    """The page as HTML; pictures are read from the job's evaluation folder."""
    bundle = _bundle(_bundle_cache(job))
    script = _text("page.js")
    main = page.results[0] if page.results else None
    drawn = _charts(page, main)
    return _environment().get_template("page.html").render(
        page=page,
        main=main,
        charts=drawn,
        curve_charts=[each for each in drawn.values() if each.id.startswith("curve-")],
        chart_data=_script_json({each.id: {"spec": each.spec, "zoom": each.zoom} for each in drawn.values()}),
        metrics=_metric_rows(page.results),
        colours=charts.kind_colours(page.time) if page.time else {},
        pictures=_pictures(main.mistakes, job.evaluation) if main else {},
        taken_for=_taken_for(main) if main else {},
        sections=_sections(page, main, drawn),
        train_counts={each.name: each.counts.get("train", 0) for each in page.data.classes} if page.data else {},
        style=Markup(_text("style.css")),  # noqa: S704 - our own file
        bundle=Markup(bundle),  # noqa: S704 - our own file
        script=Markup(script),  # noqa: S704 - our own file
        policy=_policy(bundle, script) if drawn else _policy(script),
    )


def _sections(page: Page, main: Result | None, drawn: dict[str, charts.Chart]) -> list[tuple[str, str]]:
    """(id, title) of the sections that the page has, in its order."""
    there = {
        "failure": ("Failure", page.failure is not None),
        "findings": ("Findings", bool(page.findings)),
        "results": ("Results", main is not None),
        "confusion-section": ("Confusion", main is not None),
        "mistakes": ("Mistakes", main is not None and bool(main.mistakes)),
        "classes": ("Classes", main is not None and bool(main.per_class)),
        "calibration": ("Calibration", "reliability" in drawn),
        "curves": ("Curves", bool(page.curves)),
        "time": ("Time", page.time is not None),
        "data": ("Data", page.data is not None),
        "run": ("Run", page.run is not None),
    }
    return [(name, title) for name, (title, present) in there.items() if present]


def _taken_for(result: Result) -> dict[str, str]:
    """class -> what its images were most often taken for, and how often."""
    found: dict[str, str] = {}
    for cell in sorted(result.cells, key=lambda each: -each.count):
        name = result.classes[cell.label]
        if cell.label != cell.predicted and name not in found:
            found[name] = f"{result.classes[cell.predicted]} ({cell.count})"
    return found


def _charts(page: Page, main: Result | None) -> dict[str, charts.Chart]:
    drawn: list[charts.Chart | None] = [*charts.curve_charts(page.curves)]
    if page.time is not None:
        drawn.append(charts.timeline(page.time))
    if main is not None:
        drawn += [charts.confusion(main), charts.reliability(main)]
    return {each.id: each for each in drawn if each is not None}


def _metric_rows(results: tuple[Result, ...]) -> list[dict[str, Any]]:
    """One row a metric and split; shares get a whisker on one common axis from `floor` to 1."""
    lows = [
        measure.low
        for result in results
        for name, measure in result.metrics.items()
        if name in METRICS and name not in {"loss", "ece", "ece_uncalibrated"} and 0 <= measure.low <= 1
    ]
    floor = min(0.9, int(10 * min(lows, default=0.0)) / 10)
    rows = []
    for name, (title, meaning) in METRICS.items():
        for result in results:
            measure = result.metrics.get(name)
            if measure is None:
                continue
            share = name != "loss"
            whisker = share and not name.startswith("ece")
            place = [max(0.0, min(1.0, (v - floor) / (1 - floor))) for v in (measure.low, measure.value, measure.high)]
            rows.append(
                {
                    "name": name,
                    "title": title,
                    "meaning": meaning,
                    "split": result.split,
                    "value": words.percent(measure.value) if share else words.number(measure.value),
                    "low": words.percent(measure.low) if share else words.number(measure.low),
                    "high": words.percent(measure.high) if share else words.number(measure.high),
                    "whisker": [round(100 * each, 2) for each in place] if whisker else None,
                    "n": measure.n,
                    "floor": words.percent(floor, 0),
                }
            )
    return rows


def _pictures(mistakes: tuple[Mistake, ...], folder: Path) -> dict[str, str]:
    """thumbnail -> data URI, worst mistakes first until the page has enough bytes of them.

    Only JPEG files inside the evaluation folder are taken.
    """
    found: dict[str, str] = {}
    budget = PICTURES
    for each in mistakes:
        path = (folder / each.thumbnail).resolve()
        if not path.is_relative_to(folder.resolve()) or not path.is_file() or path.stat().st_size > budget:
            continue
        data = path.read_bytes()
        if data.startswith(b"\xff\xd8\xff"):
            budget -= len(data)
            found[each.thumbnail] = "data:image/jpeg;base64," + base64.b64encode(data).decode()
    return found


def _script_json(document: Any) -> Markup:
    """JSON that may stand inside a script element whatever it holds."""
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704 - no character is left that could end the element


def _policy(*scripts: str) -> str:
    hashes = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in scripts)
    return f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {hashes}; base-uri 'none'; form-action 'none'"


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
        "percent": words.percent,
        "count": words.count,
        "number": words.number,
        "duration": words.duration,
        "size": words.size,
        "plain": _plain,
    }
    environment.globals["plural"] = words.plural
    return environment


def _plain(value: Any) -> str:
    """A setting's value as one would type it."""
    if value is None or value == () or value == []:
        return "–"
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _bundle_cache(job: JobFolder) -> Path | None:
    """Where the chart library is kept between reports; None for a job outside any workspace."""
    jobs = job.path.absolute().parent
    workspace = Workspace(jobs.parent)
    return workspace.cache / "report" if jobs == workspace.jobs else None


@cache
def _bundle(folder: Path | None) -> str:
    """Vega, Vega-Lite and Vega-Embed as one script, 0.9 MB; making it takes 1.3 s, reading it 2 ms."""
    import vl_convert

    version = re.sub(r"[^0-9A-Za-z.]", "", vl_convert.__version__)
    kept = folder / f"vega-{version}.js" if folder else None
    if kept is not None and kept.is_file():
        return kept.read_text(encoding="utf-8")
    text = str(vl_convert.javascript_bundle()).replace("</script", "<\\/script").replace("<!--", "<\\!--")
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(kept) as file:
            file.write(text.encode())
    return text
