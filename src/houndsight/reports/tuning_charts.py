"""The charts of a tuning: its history, its trials as lines over all hyperparameters, their courses, what mattered."""

from houndsight.reports.chart import Chart, Document, colours, document, quantity, tip, zoom
from houndsight.reports.tuning_page import TuningPage, plain

_QUIET = {"domain": False, "ticks": False}
_RAMP = {"domain": [0, 1], "range": [0.15, 1]}


def draw(page: TuningPage) -> dict[str, Chart]:
    """The charts by their id; what the tuning has not got has no chart."""
    valued = [each for each in page.trials if each.value is not None and each.role in ("default", "search")]
    drawn: list[Chart] = []
    if valued:
        drawn.append(_history(page))
    if len(valued) > 1 and page.axes:
        drawn.append(_parallel(page))
    if page.importance:
        drawn.append(_importance(page))
    if len(page.courses) > 1:
        drawn.append(_courses(page))
    return {each.id: each for each in drawn}


def _form(page: TuningPage) -> str:
    return ".1%" if page.shares else ".4~g"


def _value_axis(page: TuningPage, title: str | None = None) -> Document:
    axis = {"format": ".0%" if page.shares else ".4~g", "tickCount": 5, **_QUIET}
    return {"title": title, "scale": {"zero": False, "padding": 8}, "axis": axis}


def _history(page: TuningPage) -> Chart:
    rows, best, sign = [], None, 1 if page.goal == "maximize" else -1
    searched = (each for each in page.trials if each.role in ("default", "search") and each.value is not None)
    for each in sorted(searched, key=lambda trial: trial.number):
        value = float(each.value or 0.0)
        done = each.state == "COMPLETED"
        if done and (best is None or sign * value > sign * best):
            best = value
        settings = " ".join(f"{name}={plain(given)}" for name, given in each.hyperparameters.items()) or "as it is"
        rows.append({"trial": each.number, "value": value, "low": each.low, "high": each.high, "best": best,
                     "state": "completed" if done else "stopped early", "settings": settings})  # fmt: skip
    x = quantity(
        "trial", "Trial", axis={"grid": False, "tickMinStep": 1, "format": "d"}, scale={"nice": False, "padding": 12}
    )
    y = _value_axis(page)
    tips = [tip("trial", "trial", "d"), tip("value", page.objective, _form(page)), tip("state"), tip("settings")]
    colour = colours("state", {"completed": "var(--train)", "stopped early": "var(--other)"})
    spec = {
        "data": {"values": rows},
        "encoding": {"x": x},
        "layer": [
            {"mark": {"type": "rule", "opacity": 0.35, "strokeWidth": 2},
             "encoding": {"y": quantity("low", **y), "y2": {"field": "high"}, "color": colour}},
            {"mark": {"type": "line", "interpolate": "step-after", "strokeWidth": 2, "color": "var(--valid)"},
             "encoding": {"y": quantity("best", **y)}},
            {"mark": {"type": "point", "filled": True, "size": 60, "opacity": 1},
             "encoding": {"y": quantity("value", **y), "color": colour, "tooltip": tips}, "params": [zoom("x")]},
        ],
    }  # fmt: skip
    legend = (("completed", "var(--train)"), ("stopped early", "var(--other)"), ("best so far", "var(--valid)"))
    said = f"{page.objective} of {len(rows)} trials in their order, with 95 % intervals, and the best so far."
    return Chart("history", "Trials", said, document(spec, 260), legend=legend, zoom=("trial",))


def _parallel(page: TuningPage) -> Chart:
    """Every trial as a line over all hyperparameters, the better the darker; the objective is the last axis."""
    valued = [each for each in page.trials if each.value is not None and each.number in page.places]
    values = [float(each.value or 0.0) for each in valued]
    low, high = min(values), max(values)
    sign = 1 if page.goal == "maximize" else -1
    rows = []
    for each, value in zip(valued, values, strict=True):
        share = (value - low) / (high - low) if high > low else 0.5
        places = {**page.places[each.number], page.objective: share}
        good = share if sign > 0 else 1 - share
        rows += [
            {"trial": each.number, "axis": name, "place": place, "good": good, "value": value,
             "given": plain(each.hyperparameters.get(name, "")) if name in each.hyperparameters else ""}
            for name, place in places.items()
        ]  # fmt: skip
    names = [each.name for each in page.axes] + [page.objective]
    said = [f"{100 * each:.1f} %" if page.shares else f"{each:.4g}" for each in (low, high)]
    marks = [
        {"axis": each.name, "place": place, "text": text}
        for each in page.axes
        for place, text in _marks(each.choices, each.lower, each.upper)
    ]
    marks += [{"axis": page.objective, "place": place, "text": text} for place, text in enumerate(said)]
    x = {"field": "axis", "type": "nominal", "sort": names, "title": None, "scale": {"type": "point", "padding": 0.35},
         "axis": {"labelAngle": 0, "orient": "top", **_QUIET}}  # fmt: skip
    y: Document = {"scale": {"domain": [0, 1], "padding": 8}, "axis": None}
    tips = [tip("trial", "trial", "d"), tip("axis"), tip("given", "value"), tip("value", page.objective, _form(page))]
    spec = {
        "layer": [
            {"data": {"values": [{"axis": name} for name in names]},
             "mark": {"type": "rule", "color": "var(--line-strong)"},
             "encoding": {"x": x, "y": {"datum": 0, **y}, "y2": {"datum": 1}}},
            {"data": {"values": rows}, "mark": {"type": "line", "strokeWidth": 2, "color": "var(--train)"},
             "encoding": {"x": x, "y": quantity("place", **y), "detail": {"field": "trial"}, "order": {"field": "good"},
                          "opacity": quantity("good", scale=_RAMP, legend=None)}},
            {"data": {"values": rows}, "mark": {"type": "point", "filled": True, "size": 40, "color": "var(--train)"},
             "encoding": {"x": x, "y": quantity("place", **y), "tooltip": tips,
                          "opacity": quantity("good", scale=_RAMP, legend=None)}},
            {"data": {"values": marks}, "mark": {"type": "text", "align": "left", "dx": 7, "fontSize": 11,
                                                 "color": "var(--muted)"},
             "encoding": {"x": x, "y": quantity("place", **y), "text": {"field": "text"}}},
        ],
    }  # fmt: skip
    shown = f"{len(valued)} trials as lines over {', '.join(names)}; the better the stronger."
    return Chart("parallel", "All hyperparameters at once", shown, document(spec, 300))


def _marks(choices: tuple[str, ...], lower: str, upper: str) -> list[tuple[float, str]]:
    if not choices:
        return [(0.0, lower), (1.0, upper)]
    return [(at / max(1, len(choices) - 1), each) for at, each in enumerate(choices)]


def _importance(page: TuningPage) -> Chart:
    rows = [{"name": name, "share": share} for name, share in page.importance.items()]
    spec = {
        "data": {"values": rows},
        "mark": {"type": "bar", "color": "var(--train)", "cornerRadiusEnd": 3, "height": 16},
        "encoding": {
            "y": {"field": "name", "type": "nominal", "sort": "-x", "title": None, "axis": _QUIET},
            "x": quantity("share", None, axis={"format": ".0%", "tickCount": 5, **_QUIET}),
            "tooltip": [tip("name"), tip("share", "importance", ".0%")],
        },
    }
    said = "; ".join(f"{name} {100 * share:.0f} %" for name, share in page.importance.items())
    return Chart("importance", "What mattered", said, document(spec, max(90, 34 * len(rows))), shape="half")


def _courses(page: TuningPage) -> Chart:
    best = next((each.number for each in page.trials if each.place == 1), None)
    rows = [
        {"epoch": at, "value": value, "trial": each.number, "best": each.number == best}
        for each in page.courses
        for at, value in enumerate(each.values, start=1)
    ]
    y = _value_axis(page) if page.course_name == page.objective else {
        **_value_axis(page), "axis": {"format": ".4~g", "tickCount": 5, **_QUIET}
    }  # fmt: skip
    colour = colours("best", {True: "var(--valid)", False: "var(--other)"})
    spec = {
        "data": {"values": rows},
        "mark": {"type": "line", "strokeWidth": 1.5, "opacity": 0.7, "clip": True},
        "params": [zoom("x")],
        "encoding": {
            "x": quantity("epoch", "Epoch", axis={"grid": False, "tickMinStep": 1, "format": "d"},
                          scale={"nice": False, "zero": False}),
            "y": quantity("value", **y), "detail": {"field": "trial"}, "color": colour,
            "order": {"field": "epoch"}, "tooltip": [tip("trial", "trial", "d"), tip("value", " ", ".4~g")],
        },
    }  # fmt: skip
    legend = (("the best trial", "var(--valid)"), ("the others", "var(--other)"))
    said = f"{page.course_name} of {len(page.courses)} trials, epoch by epoch."
    return Chart("courses", page.course_name, said, document(spec, 240), legend=legend, shape="half", zoom=("epoch",))
