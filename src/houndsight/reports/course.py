"""Charts of how a run went: one for each recorded scalar, and what the time was spent on from beginning to end."""

from collections.abc import Sequence
from dataclasses import replace

from houndsight.reports import numbers, words
from houndsight.reports.chart import Chart, Document, colours, document, quantity, tip, zoom
from houndsight.reports.page import Curve, TimeUse

KIND_COLOURS = 8
"""The page has this many colours for kinds of time; further kinds share the last."""
DOTS = 60
"""Curves of no more points than this show each of them."""

FEW = 12
"""Up to this many numbers of a script's metric each have a tick."""
SCRIPT = "script"
"""Mode of numbers that were found in a script's output; their steps only count them."""

_DOT = {"type": "point", "filled": True, "clip": True}
_TITLES = {"loss": "Loss", "accuracy": "Accuracy", "lr": "Learning rate"}
_MODES = {"train": "var(--train)", "valid": "var(--valid)"}
_OTHERS = ("var(--other)", "var(--k2)", "var(--k3)", "var(--k4)")


def curve_charts(curves: Sequence[Curve]) -> list[Chart]:
    """One chart a scalar with all its modes, all over the same steps; the first takes the whole width.

    Numbers out of a script's output have charts of their own: each is counted from 1 for itself, so they share no axis,
    and a single number needs none.
    """
    steps = [each for each in curves if each.mode != SCRIPT]
    names = list(dict.fromkeys(each.name for each in steps))
    last = max((point.step for each in steps for point in each.points), default=0)
    charts: list[Chart] = []
    for name in names:
        together = [each for each in steps if each.name == name]
        if any(point.value is not None for each in together for point in each.points):
            charts.append(_curve_chart(f"curve-{len(charts)}", name, together, last, wide=not charts))
    found = [each for each in curves if each.mode == SCRIPT and sum(p.value is not None for p in each.points) > 1]
    for number, each in enumerate(found):
        charts.append(_curve_chart(f"metric-{number}", each.name, [each], each.points[-1].step, wide=number == 0))
    return charts


def _mode_colours(curves: Sequence[Curve]) -> dict[str, str]:
    if curves[0].mode == SCRIPT:
        return {SCRIPT: "var(--train)"}
    others = [each.mode for each in curves if each.mode not in _MODES]
    found = {mode: _OTHERS[place % len(_OTHERS)] for place, mode in enumerate(others)}
    return {each.mode: _MODES.get(each.mode, found.get(each.mode, "")) for each in curves}


def title(name: str) -> str:
    """A scalar's name as a heading."""
    return _TITLES.get(name) or name[:1].upper() + name[1:].replace("_", " ")


def overlaid(identifier: str, heading: str, name: str, curves: Sequence[Curve], chosen: dict[str, str]) -> Chart:
    """Curves of several jobs in one chart, each with its job as its mode, in the colours of `chosen`."""
    last = max((point.step for each in curves for point in each.points), default=0)
    return replace(_curve_chart(identifier, name, curves, last, wide=False, chosen=chosen), title=heading)


def _curve_chart(
    identifier: str,
    name: str,
    curves: Sequence[Curve],
    last: int,
    *,
    wide: bool,
    chosen: dict[str, str] | None = None,
) -> Chart:
    counted = curves[0].mode == SCRIPT
    field, axis, start = ("number", "Number found", 1) if counted else ("step", "Step", 0)
    rows = [
        {
            field: p.step + start,
            "value": p.value,
            "low": p.low,
            "high": p.high,
            "mode": c.mode,
            "dot": len(c.points) <= DOTS,
        }
        for c in curves
        for p in c.points
        if p.value is not None
    ]
    # Of a few counted numbers every one has its tick: halves of them would be nonsense.
    whole: Document = {"values": list(range(1, last + 2))} if counted and last < FEW else {}
    shares = name == "accuracy" and all(0 <= p.value <= 1 for c in curves for p in c.points if p.value is not None)
    heading = title(name)
    chosen = chosen or _mode_colours(curves)
    spec = {
        "data": {"values": rows},
        "encoding": {
            "x": quantity(
                field,
                axis,
                axis={"format": "~s", "grid": False, "tickCount": 6} | whole,
                scale={"nice": False, "domain": [start, start + max(last, 1)], "padding": 6},
            ),
            "color": colours("mode", chosen),
        },
        "layer": _curve_layers(heading, field, zero=name == "lr", shares=shares, dots=any(row["dot"] for row in rows)),
    }
    return Chart(
        id=identifier,
        title=heading,
        description=f"{heading} over the {'numbers found' if counted else 'steps'}. "
        + " ".join(_say(each) for each in curves),
        spec=document(spec, 260 if wide else 200),
        legend=() if counted else tuple((words.SPLITS.get(mode, mode), colour) for mode, colour in chosen.items()),
        shape="wide" if wide else "half",
        zoom=(field,),
    )


def _curve_layers(title: str, field: str, *, zero: bool, shares: bool, dots: bool) -> list[Document]:
    """The band, the line, the dots of short curves, and the dot under the pointer with its tooltip."""
    axis = {"format": ".0%" if shares else ".6~g", "tickCount": 5, "domain": False, "ticks": False}
    y: Document = {"scale": {"zero": zero, "padding": 6}, "axis": axis}
    value = {"y": quantity("value", **y)}
    form = ".1%" if shares else ".4~g"
    short = {"transform": [{"filter": "datum.dot"}], "mark": _DOT | {"size": 36, "opacity": 1}, "encoding": value}
    near = {"type": "point", "nearest": True, "on": "pointerover", "clear": "pointerout", "fields": [field, "mode"]}
    return [
        {
            "mark": {"type": "area", "opacity": 0.16, "clip": True, "interpolate": "monotone"},
            "encoding": {"y": quantity("low", **y), "y2": {"field": "high"}},
        },
        {
            "mark": {"type": "line", "strokeWidth": 2, "clip": True, "strokeJoin": "round"},
            "encoding": value,
            "params": [zoom("x")],
        },
        *[short] * dots,
        {
            "params": [{"name": "hover", "select": near}],
            "mark": _DOT | {"size": 80, "stroke": "var(--paper)", "strokeWidth": 2},
            "encoding": value
            | {
                "opacity": {"condition": {"param": "hover", "empty": False, "value": 1}, "value": 0},
                "tooltip": [
                    *[tip("mode")] * (field == "step"),
                    tip(field, field, ","),
                    tip("value", title, form),
                    tip("low", "from", form),
                    tip("high", "to", form),
                ],
            },
        },
    ]


def _say(curve: Curve) -> str:
    at = f"number {curve.best_step + 1}" if curve.mode == SCRIPT and curve.best_step is not None else ""
    at = at or f"step {curve.best_step}"
    best = f", best {numbers.number(curve.best)} at {at}" if curve.best_step is not None else ""
    return f"{curve.mode}: from {numbers.number(curve.first)} to {numbers.number(curve.last)}{best}."


def kind_colours(time: TimeUse) -> dict[str, str]:
    """A colour for every kind of time, `rest` always grey; the largest kinds first."""
    kinds = [each.kind for each in time.shares if each.kind != "rest"]
    chosen = {kind: f"var(--k{min(place, KIND_COLOURS - 1)})" for place, kind in enumerate(kinds)}
    return chosen | {"rest": "var(--k-rest)"}


def timeline(time: TimeUse) -> Chart | None:
    """What each piece of the run was spent on, stacked to the whole; None for a run of fewer than three pieces."""
    if len(time.slices) < 3:
        return None
    place = {each.kind: (each.label, order) for order, each in enumerate(time.shares)}
    rows = [
        {"start": s.start, "end": s.end, "share": share, "kind": kind, "label": place[kind][0], "order": place[kind][1]}
        for s in time.slices
        for kind, share in s.shares.items()
    ]
    across = {"grid": False, "format": "~s", "tickCount": 8}
    down = {"format": ".0%", "tickCount": 3, "domain": False, "ticks": False}
    spec = {
        "data": {"values": rows},
        "mark": {"type": "bar", "clip": True, "binSpacing": 0, "strokeWidth": 0.6},
        "encoding": {
            "x": quantity("start", "Seconds since the start", bin="binned", axis=across),
            "x2": {"field": "end"},
            "y": quantity("share", stack="zero", scale={"domain": [0, 1]}, axis=down),
            "color": colours("kind", kind_colours(time)),
            "stroke": colours("kind", kind_colours(time)),
            "order": {"field": "order"},
            "tooltip": [
                tip("label"),
                tip("share", "share", ".1%"),
                tip("start", "from second", ".3~g"),
                tip("end", "to second", ".3~g"),
            ],
        },
    }
    said = "; ".join(f"{each.label} {numbers.percent(each.share)}" for each in time.shares)
    return Chart("timeline", "Over the run", f"Shares of time over the run. In all: {said}.", document(spec, 170))
