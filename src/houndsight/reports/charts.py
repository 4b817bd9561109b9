"""Curves, timeline, confusion and calibration as Vega-Lite documents: plain dicts whose colours are the page's own.

Every colour is a CSS variable, so that the page turns dark, or black on white for paper, without a chart being redrawn.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from houndsight.reports import words
from houndsight.reports.page import Curve, Result, TimeUse

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
KIND_COLOURS = 8
"""The page has this many colours for kinds of time; further kinds share the last."""

_WHEEL = "wheel![event.ctrlKey || event.shiftKey || event.metaKey]"
"""The wheel alone belongs to the page's scrolling."""

_CONFIG: dict[str, Any] = {
    "background": None,
    "font": "inherit",
    "view": {"stroke": None},
    "axis": {
        "labelColor": "var(--muted)",
        "titleColor": "var(--muted)",
        "gridColor": "var(--line)",
        "domainColor": "var(--line-strong)",
        "tickColor": "var(--line-strong)",
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "titlePadding": 8,
        "labelPadding": 5,
    },
}


@dataclass(frozen=True)
class Chart:
    """A chart and what stands around it."""

    id: str
    """Its id on the page."""
    title: str
    """Its heading."""
    description: str
    """What it shows, for those who do not see it."""
    spec: dict[str, Any]
    """The Vega-Lite document."""
    legend: tuple[tuple[str, str], ...] = ()
    """(words, CSS colour) pairs."""
    shape: str = "wide"
    """wide, half or square."""
    zoom: tuple[str, ...] = field(default=())
    """The fields that can be zoomed into, x first."""


def _document(spec: dict[str, Any], height: int | str) -> dict[str, Any]:
    head = {"$schema": SCHEMA, "width": "container", "height": height, "config": _CONFIG}
    return head | {"autosize": {"type": "fit", "contains": "padding", "resize": True}, "padding": 2} | spec


def _zoom(*channels: str) -> dict[str, Any]:
    select = {"type": "interval", "encodings": list(channels), "zoom": _WHEEL}
    return {"name": "zoom", "select": select, "bind": "scales"}


def curve_charts(curves: Sequence[Curve]) -> list[Chart]:
    """One chart a scalar with all its modes; the first takes the whole width."""
    names = list(dict.fromkeys(each.name for each in curves))
    charts = []
    for position, name in enumerate(names):
        chart = _curve_chart(f"curve-{position}", name, [each for each in curves if each.name == name], position == 0)
        if chart is not None:
            charts.append(chart)
    return charts


_TITLES = {"loss": "Loss", "accuracy": "Accuracy", "lr": "Learning rate"}


def mode_colour(mode: str) -> str:
    """Training always has the same colour, and so have the other modes."""
    return {"train": "var(--train)", "valid": "var(--valid)"}.get(mode, "var(--other)")


def _curve_chart(identifier: str, name: str, curves: Sequence[Curve], wide: bool) -> Chart | None:
    modes = [each.mode for each in curves]
    rows = [
        {
            "step": p.step,
            "value": p.value,
            "low": p.low,
            "high": p.high,
            "mode": curve.mode,
            "dot": len(curve.points) <= 60,
        }
        for curve in curves
        for p in curve.points
        if p.value is not None
    ]
    if not rows:
        return None
    percents = name == "accuracy" and all(0 <= row["low"] and row["high"] <= 1 for row in rows)  # type: ignore[operator]
    y_format = ".0%" if percents else "~g"
    x = {
        "field": "step",
        "type": "quantitative",
        "title": "Step",
        "axis": {"format": "~s", "grid": False, "tickCount": 6},
        "scale": {"nice": False},
    }
    y = {
        "type": "quantitative",
        "title": None,
        "scale": {"zero": name == "lr"},
        "axis": {"format": y_format, "tickCount": 5, "domain": False, "ticks": False},
    }
    colour = {
        "field": "mode",
        "type": "nominal",
        "legend": None,
        "scale": {"domain": modes, "range": [mode_colour(mode) for mode in modes]},
    }
    tooltip = [
        {"field": "mode", "title": " "},
        {"field": "step", "title": "step", "format": ","},
        {"field": "value", "title": _TITLES.get(name, name), "format": ".1%" if percents else ".4~g"},
        {"field": "low", "title": "from", "format": ".1%" if percents else ".4~g"},
        {"field": "high", "title": "to", "format": ".1%" if percents else ".4~g"},
    ]
    hover = {
        "name": "hover",
        "select": {
            "type": "point",
            "nearest": True,
            "on": "pointerover",
            "clear": "pointerout",
            "fields": ["step", "mode"],
        },
    }
    shown = {"condition": {"param": "hover", "empty": False, "value": 1}, "value": 0}
    layers = [
        {
            "mark": {"type": "area", "opacity": 0.16, "clip": True, "interpolate": "monotone"},
            "encoding": {"y": y | {"field": "low"}, "y2": {"field": "high"}},
        },
        {
            "mark": {"type": "line", "strokeWidth": 2, "clip": True, "strokeJoin": "round"},
            "encoding": {"y": y | {"field": "value"}},
            "params": [_zoom("x")],
        },
        {
            "transform": [{"filter": "datum.dot"}],
            "mark": {"type": "point", "filled": True, "size": 36, "opacity": 1, "clip": True},
            "encoding": {"y": y | {"field": "value"}},
        },
        {
            "params": [hover],
            "mark": {
                "type": "point",
                "filled": True,
                "size": 80,
                "stroke": "var(--paper)",
                "strokeWidth": 2,
                "clip": True,
            },
            "encoding": {"y": y | {"field": "value"}, "opacity": shown, "tooltip": tooltip},
        },
    ]
    spec = {"data": {"values": rows}, "encoding": {"x": x, "color": colour}, "layer": layers}
    return Chart(
        id=identifier,
        title=_TITLES.get(name, name),
        description=f"{_TITLES.get(name, name)} over the steps. " + " ".join(_say(each) for each in curves),
        spec=_document(spec, 260 if wide else 200),
        legend=tuple((mode, mode_colour(mode)) for mode in modes) if len(modes) > 1 else (),
        shape="wide" if wide else "half",
        zoom=("step",),
    )


def _say(curve: Curve) -> str:
    best = f", best {words.number(curve.best)} at step {curve.best_step}" if curve.best_step is not None else ""
    return f"{curve.mode}: from {words.number(curve.first)} to {words.number(curve.last)}{best}."


def kind_colours(time: TimeUse) -> dict[str, str]:
    """A colour for every kind of time, `rest` always grey; the largest kinds first."""
    kinds = [each.kind for each in time.shares if each.kind != "rest"]
    return {kind: f"var(--k{min(place, KIND_COLOURS - 1)})" for place, kind in enumerate(kinds)} | {
        "rest": "var(--k-rest)"
    }


def timeline(time: TimeUse) -> Chart | None:
    """What each piece of the run was spent on, stacked to the whole; None for a run of a single piece."""
    if len(time.slices) < 3:
        return None
    colours = kind_colours(time)
    order = {each.kind: place for place, each in enumerate(time.shares)}
    labels = {each.kind: each.label for each in time.shares}
    rows = [
        {
            "start": each.start,
            "end": each.end,
            "share": share,
            "kind": kind,
            "label": labels[kind],
            "order": order[kind],
        }
        for each in time.slices
        for kind, share in each.shares.items()
    ]
    spec = {
        "data": {"values": rows},
        "mark": {"type": "bar", "clip": True, "binSpacing": 0},
        "encoding": {
            "x": {
                "field": "start",
                "type": "quantitative",
                "title": "Seconds since the start",
                "bin": "binned",
                "axis": {"grid": False, "format": "~s", "tickCount": 8},
            },
            "x2": {"field": "end"},
            "y": {
                "field": "share",
                "type": "quantitative",
                "stack": "zero",
                "title": None,
                "scale": {"domain": [0, 1]},
                "axis": {"format": ".0%", "tickCount": 3, "domain": False, "ticks": False},
            },
            "color": {
                "field": "kind",
                "type": "nominal",
                "legend": None,
                "scale": {"domain": list(colours), "range": list(colours.values())},
            },
            "order": {"field": "order"},
            "tooltip": [
                {"field": "label", "title": " "},
                {"field": "share", "title": "share", "format": ".1%"},
                {"field": "start", "title": "from second", "format": ".3~g"},
                {"field": "end", "title": "to second", "format": ".3~g"},
            ],
        },
    }
    said = "; ".join(f"{each.label} {words.percent(each.share)}" for each in time.shares)
    return Chart("timeline", "Over the run", f"Shares of time over the run. In all: {said}.", _document(spec, 170))


def confusion(result: Result) -> Chart:
    """True classes down, predicted classes across; right answers in one colour, wrong ones in another.

    Positions are numbers rather than names, so that 133 classes can be zoomed into; names appear as there is room.
    """
    size = len(result.classes)
    rows = [
        {
            "x": cell.predicted, "x1": cell.predicted - 0.5, "x2": cell.predicted + 0.5,
            "y": cell.label, "y1": cell.label - 0.5, "y2": cell.label + 0.5,
            "n": cell.count, "share": cell.share, "right": cell.label == cell.predicted,
            "label": result.classes[cell.label], "predicted": result.classes[cell.predicted],
        }
        for cell in result.cells
    ]  # fmt: skip

    def axis(channel: str, title: str, **extra: Any) -> dict[str, Any]:
        names = {
            "labelExpr": "datum.value >= 0 && datum.value < length(names) && datum.value == floor(datum.value) ? names[datum.value] : ''"
        }
        span = "width" if channel == "x" else "height"
        ticks = {"signal": f"max(2, floor({span} / 15))"}
        return {
            "field": f"{channel}1", "type": "quantitative", "title": title,
            "scale": {"domain": [-0.5, size - 0.5], "nice": False, "zero": False, "reverse": channel == "y"},
            "axis": {"grid": False, "tickCount": ticks, "tickMinStep": 1, "labelLimit": 120, "labelOverlap": "greedy", "labelSeparation": 1, "ticks": False, "domain": False} | names | extra,
        }  # fmt: skip

    tooltip = [
        {"field": "label", "title": "filed under"},
        {"field": "predicted", "title": "taken for"},
        {"field": "n", "title": "images", "format": ","},
        {"field": "share", "title": "of the class", "format": ".1%"},
    ]
    cells = {
        "params": [_zoom("x", "y")],
        "mark": {"type": "rect", "clip": True, "stroke": "var(--sunken)", "strokeWidth": 1 if size <= 40 else 0},
        "encoding": {
            "x2": {"field": "x2"},
            "y2": {"field": "y2"},
            "fill": {
                "field": "right",
                "type": "nominal",
                "legend": None,
                "scale": {"domain": [True, False], "range": ["var(--train)", "var(--bad)"]},
            },
            "fillOpacity": {
                "field": "share",
                "type": "quantitative",
                "legend": None,
                "scale": {"type": "sqrt", "domain": [0, 1], "range": [0.2, 1]},
            },
            "tooltip": tooltip,
        },
    }
    layers: list[dict[str, Any]] = [cells]
    if size <= 15:
        text = {"field": "n", "type": "quantitative", "format": ","}
        ink = {"condition": {"test": "datum.share > 0.35", "value": "var(--on-accent)"}, "value": "var(--ink)"}
        place = {"x": {"field": "x", "type": "quantitative"}, "y": {"field": "y", "type": "quantitative"}}
        layers.append(
            {"mark": {"type": "text", "fontSize": 12, "clip": True}, "encoding": {"text": text, "color": ink} | place}
        )
    spec = {
        "data": {"values": rows},
        "params": [{"name": "names", "value": list(result.classes)}],
        "encoding": {
            "x": axis("x", "Taken for", labelAngle=-45, labelAlign="right", labelBaseline="middle"),
            "y": axis("y", "Filed under"),
        },
        "layer": layers,
    }
    right = sum(cell.count for cell in result.cells if cell.label == cell.predicted)
    said = f"Confusion matrix of {size} classes: {right} of {result.images} images on the diagonal."
    return Chart("confusion", "Confusion", said, _document(spec, "container"), shape="square", zoom=("x1", "y1"))


def reliability(result: Result) -> Chart | None:
    """How often the classifier is right when it says it is so sure; None without bins."""
    stages = (
        ("before scaling", result.reliability_uncalibrated, "var(--other)"),
        ("as served", result.reliability, "var(--train)"),
    )
    rows = [
        {"stage": stage, "confidence": each.confidence, "accuracy": each.accuracy, "n": each.count}
        for stage, bins, _ in stages
        for each in bins
        if each.count
    ]
    if not rows:
        return None
    unit = {"type": "quantitative", "scale": {"domain": [0, 1]}}
    ticks = {"format": ".0%", "tickCount": 5}
    x = unit | {"field": "confidence", "title": "How sure it says it is", "axis": ticks | {"grid": False}}
    y = unit | {"field": "accuracy", "title": "How often it is right", "axis": ticks}
    colour = {
        "field": "stage",
        "type": "nominal",
        "legend": None,
        "scale": {"domain": [s for s, _, _ in stages], "range": [c for _, _, c in stages]},
    }
    tooltip = [
        {"field": "stage", "title": " "},
        {"field": "confidence", "title": "sure", "format": ".1%"},
        {"field": "accuracy", "title": "right", "format": ".1%"},
        {"field": "n", "title": "images", "format": ","},
    ]
    spec = {
        "layer": [
            {
                "data": {"values": [{"a": 0}, {"a": 1}]},
                "mark": {"type": "line", "color": "var(--line-strong)", "strokeDash": [4, 4]},
                "encoding": {"x": unit | {"field": "a"}, "y": unit | {"field": "a"}},
            },
            {
                "data": {"values": rows},
                "encoding": {"x": x, "y": y, "color": colour},
                "layer": [
                    {"mark": {"type": "line", "strokeWidth": 1.5}},
                    {
                        "mark": {"type": "point", "filled": True, "opacity": 0.9},
                        "encoding": {
                            "size": {
                                "field": "n",
                                "type": "quantitative",
                                "legend": None,
                                "scale": {"range": [24, 400]},
                            },
                            "tooltip": tooltip,
                        },
                    },
                ],
            },
        ]
    }
    return Chart(
        id="reliability",
        title="Calibration",
        description="Reliability diagram: share of right answers against stated confidence. The nearer the diagonal the better.",
        spec=_document(spec, "container"),
        legend=tuple((stage, colour_) for stage, _, colour_ in stages),
        shape="square",
    )
