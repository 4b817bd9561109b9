"""The charts of `smdebug`'s notebook utilities: drawn as pictures that need nothing, shown where a notebook is.

Outside of a notebook nothing is shown; `svg` holds the picture everywhere.
"""

import json
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from houndsight.scripts.smdebug_metrics import AlgorithmMetricsReader, ProfilerSystemEvents, SystemMetricsReader

MOST = 2000
"""Most points of a curve that are drawn."""
WIDTH, HEIGHT = 820, 150


class _Picture:
    """A chart: an SVG picture that a notebook shows."""

    svg = ""
    """The picture; empty where there is nothing to see."""

    def _show(self, rows: list[dict[str, Any]], spec: dict[str, Any]) -> None:
        self.svg = drawn(rows, spec) if rows else ""
        display = notebook()
        if display is not None:
            display(self)

    def _repr_html_(self) -> str:
        return self.svg or "<p>There is nothing to see yet.</p>"


class TimelineCharts(_Picture):
    """What the machine did over time, one picture below the other."""

    def __init__(
        self,
        system_metrics_reader: SystemMetricsReader,
        framework_metrics_reader: AlgorithmMetricsReader | None = None,
        starttime: float = 0,
        endtime: float | None = None,
        select_dimensions: Sequence[str] = (".*",),
        select_events: Sequence[str] = (".*",),
        x: int = 1000,
        show_workers: bool = True,
    ) -> None:
        """Of the dimensions and events in which a regular expression is found; `total` is the mean of a dimension."""
        del x, show_workers
        self.system_metrics_reader, self.framework_metrics_reader = system_metrics_reader, framework_metrics_reader
        self.select_dimensions, self.select_events = list(select_dimensions), list(select_events)
        self._start, self._end = starttime, endtime
        self.system_metrics: dict[str, dict[str, np.ndarray[Any, Any]]] = {}
        """Dimension -> name -> (n, 2) time in seconds and value."""
        self._draw()

    def update_data(self, current_timestamp: float) -> None:
        """Draw anew up to that time (microseconds since the epoch)."""
        self._end = current_timestamp
        self._draw()

    def find_time_annotations(self, indexes: Any) -> None:
        """Nothing: a picture has no selection."""

    def _draw(self) -> None:
        reader = self.system_metrics_reader
        end = self._end if self._end is not None else reader.get_timestamp_of_latest_available_file()
        self.system_metrics = series(reader.get_events(self._start, end))
        self.filtered_dimensions = {each for each in self.system_metrics if _found(each, self.select_dimensions)}
        self.filtered_events = {
            name for names in self.system_metrics.values() for name in names if _found(name, self.select_events)
        }
        rows: list[dict[str, Any]] = [
            {"dimension": dimension, "event": name, "seconds": float(when), "value": float(value)}
            for dimension in sorted(self.filtered_dimensions)
            for name in sorted(self.filtered_events & self.system_metrics[dimension].keys())
            for when, value in thinned(self.system_metrics[dimension][name])
        ]
        start = min((row["seconds"] for row in rows), default=0.0)
        self._show(
            [{**row, "seconds": row["seconds"] - start} for row in rows],
            _rows_of("line", "seconds", "seconds", "percent"),
        )


class StepTimelineChart(_Picture):
    """How long each step took."""

    def __init__(self, metrics_reader: AlgorithmMetricsReader, width: int = 1000) -> None:
        """The last `width` steps."""
        self.metrics_reader, self.width = metrics_reader, width
        self.steps: list[list[float]] = []
        """Start (s since the epoch), duration (s) and number of each step."""
        self.update_data(metrics_reader.get_timestamp_of_latest_available_file())

    def update_data(self, current_timestamp: float) -> None:
        """Draw anew up to that time (microseconds since the epoch)."""
        self.steps = [
            [each.start_time / 1e6, each.duration / 1e6, int(each.event_args["step_num"])]
            for each in self.metrics_reader.get_events(0, current_timestamp)
            if each.event_name.startswith("Step")
        ]
        rows = [{"step": number, "value": duration} for _, duration, number in self.steps[-self.width :]]
        self._show(rows, _single("line", "step", "step", "seconds"))


class MetricsHistogram(_Picture):
    """How often which utilisation was there."""

    def __init__(self, metrics_reader: SystemMetricsReader) -> None:
        self.metrics_reader = metrics_reader
        self.system_metrics: dict[str, dict[str, np.ndarray[Any, Any]]] = {}
        self._asked: tuple[float, Sequence[str], Sequence[str]] = (0, (".*",), (".*",))

    def plot(
        self,
        starttime: float = 0,
        endtime: float | None = None,
        select_dimensions: Sequence[str] = (".*",),
        select_events: Sequence[str] = (".*",),
        show_workers: bool = True,
    ) -> None:
        """Draw what lies between two times (microseconds since the epoch)."""
        del show_workers
        self._asked = (starttime, select_dimensions, select_events)
        end = self.metrics_reader.get_timestamp_of_latest_available_file() if endtime is None else endtime
        self.system_metrics = series(self.metrics_reader.get_events(starttime, end))
        rows: list[dict[str, Any]] = []
        for dimension, names in sorted(self.system_metrics.items()):
            for name, values in sorted(names.items()):
                if _found(dimension, select_dimensions) and _found(name, select_events):
                    named = {"dimension": dimension, "event": name}
                    rows += [{**named, **each} for each in counted(values[:, 1])]
        self._show(rows, _rows_of("bar", "middle", "percent", "samples"))

    def clear(self) -> None:
        """Forget what was drawn."""
        self.system_metrics, self.svg = {}, ""

    def update_data(self, current_timestamp: float) -> None:
        """Draw anew up to that time."""
        start, dimensions, events = self._asked
        self.plot(start, current_timestamp, dimensions, events)


class StepHistogram(_Picture):
    """How often a step took how long."""

    def __init__(self, metrics_reader: AlgorithmMetricsReader, width: int = 500) -> None:
        del width
        self.metrics_reader = metrics_reader
        self._asked: tuple[float, Sequence[str]] = (0, ("Step:ModeKeys",))

    def plot(
        self,
        starttime: float = 0,
        endtime: float | None = None,
        select_metrics: Sequence[str] = ("Step:ModeKeys", "Forward", "Backward"),
        show_workers: bool = True,
    ) -> None:
        """Draw what lies between two times (microseconds since the epoch)."""
        del show_workers
        self._asked = (starttime, select_metrics)
        end = self.metrics_reader.get_timestamp_of_latest_available_file() if endtime is None else endtime
        lengths: dict[str, list[float]] = {}
        for each in self.metrics_reader.get_events(starttime, end):
            if _found(each.event_name, [re.escape(word) for word in select_metrics]):
                lengths.setdefault(each.event_name, []).append(each.duration / 1e6)
        rows = [
            {"dimension": name, "event": "seconds", **each}
            for name, values in sorted(lengths.items())
            for each in counted(np.array(values))
        ]
        self._show(rows, _rows_of("bar", "middle", "seconds", "times"))

    def clear(self) -> None:
        """Forget what was drawn."""
        self.svg = ""

    def update_data(self, current_timestamp: float) -> None:
        """Draw anew up to that time."""
        start, metrics = self._asked
        self.plot(start, current_timestamp, metrics)


class Heatmap(_Picture):
    """One row a core and a GPU, from idle to busy over time."""

    def __init__(
        self,
        metrics_reader: SystemMetricsReader,
        select_metrics: Sequence[str] = (),
        starttime: float = 0,
        endtime: float | None = None,
        select_dimensions: Sequence[str] = (".*CPU", ".*GPU"),
        select_events: Sequence[str] = (".*",),
        plot_height: int = 350,
        show_workers: bool = True,
    ) -> None:
        """Of the dimensions and events in which a regular expression is found."""
        del select_metrics, show_workers
        self.metrics_reader, self._start, self._height = metrics_reader, starttime, plot_height
        self.select_dimensions, self.select_events = select_dimensions, select_events
        self.update_data(metrics_reader.get_timestamp_of_latest_available_file() if endtime is None else endtime)

    def update_data(self, current_timestamp: float) -> None:
        """Draw anew up to that time (microseconds since the epoch)."""
        found = series(self.metrics_reader.get_events(self._start, current_timestamp))
        rows = [
            {"row": f"{dimension} {name}", "sample": at, "value": float(value)}
            for dimension, names in sorted(found.items())
            for name, values in sorted(names.items())
            if name != "total" and _found(dimension, self.select_dimensions) and _found(name, self.select_events)
            for at, (_, value) in enumerate(thinned(values, 200))
        ]
        colour = {"field": "value", "type": "quantitative", "scale": {"domain": [0, 100], "scheme": "viridis"}}
        encoding = {
            "x": {"field": "sample", "type": "ordinal", "axis": None},
            "y": {"field": "row", "type": "nominal", "title": None},
            "color": {**colour, "title": "%"},
        }
        self._show(rows, {"mark": "rect", "encoding": encoding, "width": WIDTH, "height": self._height})


def series(events: Iterable[ProfilerSystemEvents]) -> dict[str, dict[str, np.ndarray[Any, Any]]]:
    """Dimension -> name -> (n, 2) time in seconds and value by time, with the mean of each dimension as `total`."""
    lists: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for each in events:
        lists.setdefault(each.dimension, {}).setdefault(each.name, []).append((each.timestamp, each.value))
    found: dict[str, dict[str, np.ndarray[Any, Any]]] = {}
    for dimension, names in lists.items():
        found[dimension] = {name: np.array(sorted(values)) for name, values in names.items()}
        sums: dict[float, list[float]] = {}
        for when, value in (pair for values in names.values() for pair in values):
            sums.setdefault(when, []).append(value)
        found[dimension]["total"] = np.array([(when, np.mean(values)) for when, values in sorted(sums.items())])
    return found


def thinned(values: np.ndarray[Any, Any], most: int = MOST) -> np.ndarray[Any, Any]:
    """(at most `most`, 2) of the pairs (n, 2), evenly taken."""
    return values[:: max(1, -(-len(values) // most))]


def counted(values: np.ndarray[Any, Any], pieces: int = 50) -> list[dict[str, float]]:
    """How many of the values (n,) lie where, as rows with `middle` and `value`."""
    counts, edges = np.histogram(values, bins=pieces)
    middles = (edges[:-1] + edges[1:]) / 2
    return [{"middle": float(at), "value": int(each)} for at, each in zip(middles, counts, strict=True)]


def drawn(rows: list[dict[str, Any]], spec: dict[str, Any]) -> str:
    """A Vega-Lite document as an SVG picture."""
    import vl_convert

    head = {"$schema": "https://vega.github.io/schema/vega-lite/v6.json", "data": {"values": rows}}
    return str(vl_convert.vegalite_to_svg(json.dumps(head | spec)))


def notebook() -> Any:
    """What shows something in the notebook that this is; None outside of one."""
    if "IPython" not in sys.modules or sys.modules["IPython"].get_ipython() is None:
        return None
    return sys.modules["IPython"].display.display


def _found(name: str, patterns: Iterable[str]) -> bool:
    return any(re.search(each, name) for each in patterns)


def _single(mark: str, x: str, across: str, y: str) -> dict[str, Any]:
    encoding = {
        "x": {"field": x, "type": "quantitative", "title": across},
        "y": {"field": "value", "type": "quantitative", "title": y},
    }
    return {"mark": mark, "encoding": encoding, "width": WIDTH, "height": HEIGHT}


def _rows_of(mark: str, x: str, across: str, y: str) -> dict[str, Any]:
    """One picture a dimension, in it one colour an event."""
    spec = _single(mark, x, across, y)
    spec["encoding"]["color"] = {"field": "event", "type": "nominal", "title": None}
    rows = {"field": "dimension", "type": "nominal", "title": None}
    return {"facet": {"row": rows}, "spec": spec, "resolve": {"scale": {"y": "independent", "x": "independent"}}}
