"""The frame of every chart: a Vega-Lite document as a plain dict, in the page's own colours, and what stands around it.

Every colour is a CSS variable, so that the page turns dark, or black on white for paper, without a chart being redrawn.
"""

from dataclasses import dataclass
from typing import Any

Document = dict[str, Any]
"""A Vega-Lite document or a part of one."""

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"

FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Liberation Sans", sans-serif'
"""The page's own; by name, because the space for labels is measured outside the page's styles."""

_WHEEL = "wheel![event.ctrlKey || event.shiftKey || event.metaKey]"
"""The wheel alone belongs to the page's scrolling."""

_CONFIG: Document = {
    "background": None,
    "font": FONT,
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
    spec: Document
    """The Vega-Lite document."""
    legend: tuple[tuple[str, str], ...] = ()
    """(words, CSS colour) pairs."""
    shape: str = "wide"
    """wide, half or square."""
    zoom: tuple[str, ...] = ()
    """The fields that can be zoomed into, x first."""


def document(spec: Document, height: int | str) -> Document:
    """`spec` as a whole document: as wide as its place on the page, `height` pixels or `container`."""
    head = {"$schema": SCHEMA, "width": "container", "height": height, "padding": 2, "config": _CONFIG}
    return head | {"autosize": {"type": "fit", "contains": "padding", "resize": True}} | spec


def zoom(*channels: str) -> Document:
    """The parameter by which the axes of `channels` can be dragged and zoomed."""
    select = {"type": "interval", "encodings": list(channels), "zoom": _WHEEL}
    return {"name": "zoom", "select": select, "bind": "scales"}


def quantity(field: str, title: str | None = None, **more: Any) -> Document:
    """A field of numbers."""
    return {"field": field, "type": "quantitative", "title": title} | more


def colours(field: str, chosen: dict[Any, str]) -> Document:
    """A field whose values each have their own colour; the legend is the page's business."""
    scale = {"domain": list(chosen), "range": list(chosen.values())}
    return {"field": field, "type": "nominal", "legend": None, "scale": scale}


def tip(field: str, title: str = " ", form: str | None = None) -> Document:
    """A line of a tooltip."""
    return {"field": field, "title": title} | (
        {"format": form, "type": "quantitative"} if form else {"type": "nominal"}
    )
