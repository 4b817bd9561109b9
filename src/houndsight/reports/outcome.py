"""Charts of what came out: which classes are taken for which, and whether the stated confidence can be believed."""

from typing import Any

from houndsight.reports.chart import Chart, Document, colours, document, quantity, tip, zoom
from houndsight.reports.page import Result

NUMBERED = 15
"""Up to this many classes the cells of the confusion matrix carry their counts."""
OUTLINED = 40
"""Up to this many classes the cells are set apart by lines; above, wrong ones are drawn larger than they are."""

ACROSS, DOWN = "Taken for", "Filed under"
SURE, RIGHT = "How sure it says it is", "How often it is right"


def confusion(result: Result) -> Chart:
    """True classes down, predicted classes across; right answers in one colour, wrong ones in another.

    Positions are numbers rather than names, so that 133 classes can be zoomed into; names appear as there is room.
    """
    size = len(result.classes)
    layers = [_cells(outlined=size <= OUTLINED)] + [_counts()] * (size <= NUMBERED)
    tilted = {"labelAngle": -45, "labelAlign": "right", "labelBaseline": "middle", "labelOverlap": False}
    spec = {
        "data": {"values": _rows(result)},
        "params": [{"name": "names", "value": list(result.classes)}],
        "encoding": {"x": _axis("x", ACROSS, size, tilted), "y": _axis("y", DOWN, size, {})},
        "layer": layers,
    }
    right = sum(cell.count for cell in result.cells if cell.label == cell.predicted)
    said = f"Confusion matrix of {size} classes: {right} of {result.images} images on the diagonal."
    return Chart("confusion", "Confusion matrix", said, document(spec, "container"), shape="square", zoom=("x1", "y1"))


def _rows(result: Result) -> list[Document]:
    return [
        {
            "x": cell.predicted,
            "x1": cell.predicted - 0.5,
            "x2": cell.predicted + 0.5,
            "y": cell.label,
            "y1": cell.label - 0.5,
            "y2": cell.label + 0.5,
            "n": cell.count,
            "share": cell.share,
            "right": cell.label == cell.predicted,
            "label": result.classes[cell.label],
            "predicted": result.classes[cell.predicted],
        }
        for cell in result.cells
    ]


def _axis(channel: str, title: str, size: int, more: Document) -> Document:
    """An axis of numbers that are labelled with the names of classes where there is room for them."""
    span, apart = {"x": ("width", 26), "y": ("height", 15)}[channel]
    at = "datum.value"
    axis = {
        "labelExpr": f"{at} >= 0 && {at} < length(names) && {at} == floor({at}) ? names[{at}] : ''",
        "tickCount": {"signal": f"max(2, floor({span} / {apart}))"},
        "tickMinStep": 1,
        "labelLimit": 120,
        "labelOverlap": "greedy",
        "labelSeparation": 1,
        "grid": False,
        "ticks": False,
        "domain": False,
    }
    scale = {"domain": [-0.5, size - 0.5], "nice": False, "zero": False, "reverse": channel == "y"}
    return quantity(f"{channel}1", title, scale=scale, axis=axis | more)


def _cells(*, outlined: bool) -> Document:
    larger = {"stroke": colours("right", {True: "transparent", False: "var(--bad)"})}
    strength = {"type": "sqrt", "domain": [0, 1], "range": [0.2 if outlined else 0.5, 1]}
    chosen = {True: "var(--train)", False: "var(--bad)"}
    return {
        "params": [zoom("x", "y")],
        "mark": {"type": "rect", "clip": True, "stroke": "var(--paper)", "strokeWidth": 1},
        "encoding": {
            "x2": {"field": "x2"},
            "y2": {"field": "y2"},
            "fill": colours("right", chosen),
            "fillOpacity": quantity("share", legend=None, scale=strength),
            "tooltip": [
                tip("label", "filed under"),
                tip("predicted", "taken for"),
                tip("n", "images", ","),
                tip("share", "of the class", ".1%"),
            ],
        }
        | ({} if outlined else larger | {"strokeWidth": {"value": 1.5}}),
    }


def _counts() -> Document:
    ink: Document = {"condition": {"test": "datum.share > 0.8", "value": "var(--on-accent)"}, "value": "var(--ink)"}
    return {
        "mark": {"type": "text", "fontSize": 12, "clip": True, "tooltip": None},
        "encoding": {
            "x": quantity("x", ACROSS),
            "y": quantity("y", DOWN),
            "text": quantity("n", format=","),
            "color": ink,
        },
    }


def reliability(result: Result) -> Chart | None:
    """How often the classifier is right when it says it is so sure; None without bins."""
    stages = {"before scaling": result.reliability_uncalibrated, "as served": result.reliability}
    rows = [
        {"stage": stage, "confidence": each.confidence, "accuracy": each.accuracy, "n": each.count}
        for stage, bins in stages.items()
        for each in bins
        if each.count
    ]
    if not rows:
        return None
    chosen = {"before scaling": "var(--other)", "as served": "var(--train)"}
    whole: Document = {"scale": {"domain": [0, 1]}}
    ticks: dict[str, Any] = {"format": ".0%", "tickCount": 5}
    dots = {
        "mark": {"type": "point", "filled": True, "opacity": 0.9},
        "encoding": {
            "size": quantity("n", legend=None, scale={"range": [24, 400]}),
            "tooltip": [
                tip("stage"),
                tip("confidence", "sure", ".1%"),
                tip("accuracy", "right", ".1%"),
                tip("n", "images", ","),
            ],
        },
    }
    diagonal = {
        "data": {"values": [{"a": 0}, {"a": 1}]},
        "mark": {"type": "line", "color": "var(--line-strong)", "strokeDash": [4, 4]},
        "encoding": {"x": quantity("a", SURE, **whole), "y": quantity("a", RIGHT, **whole)},
    }
    measured = {
        "data": {"values": rows},
        "encoding": {
            "x": quantity("confidence", SURE, axis=ticks | {"grid": False}, **whole),
            "y": quantity("accuracy", RIGHT, axis=ticks, **whole),
            "color": colours("stage", chosen),
        },
        "layer": [{"mark": {"type": "line", "strokeWidth": 1.5}}, dots],
    }
    said = "Reliability diagram: share of right answers against stated confidence. The nearer the diagonal the better."
    spec = document({"layer": [diagonal, measured]}, "container")
    return Chart("reliability", "Reliability", said, spec, tuple(chosen.items()), "square")
