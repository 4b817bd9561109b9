"""Charts of speed and machine: how long steps took, and what cores, memory, disk and network did over time."""

from collections.abc import Sequence

from houndsight.reports.chart import Chart, Document, colours, document, quantity, tip
from houndsight.reports.numbers import duration, plural, size
from houndsight.reports.watched import Bin, MachineUse, Row

_CURVES = (
    ("cores", "Cores in use", "", (("training_cores", "this training"), ("other_cores", "everybody else"))),
    ("memory", "Memory", "bytes", (("memory_training", "this training"), ("memory_used", "in use in all"))),
    ("disk", "Disk", "bytes/s", (("disk_read", "read"), ("disk_written", "written"))),
    ("network", "Network", "bytes/s", (("received", "received"), ("sent", "sent"))),
)
_COLOURS = ("var(--train)", "var(--other)")


def histogram(bins: Sequence[Bin]) -> Chart | None:
    """Lengths of the steps; what lies above the 99th percentile is one bar of its own at the end."""
    if len(bins) < 3:
        return None
    width = bins[0].high - bins[0].low
    rest = bins[-1].high - bins[-1].low > 1.5 * width
    rows = [
        {
            "low": 1000 * each.low,
            "high": 1000 * (each.low + width if rest and each is bins[-1] else each.high),
            "count": each.count,
            "said": f"{duration(each.low)} to {duration(each.high)}",
            "rest": rest and each is bins[-1],
        }
        for each in bins
    ]
    across = {"grid": False, "format": "~s", "tickCount": 6}
    down = {"tickCount": 4, "domain": False, "ticks": False, "format": "~s"}
    spec = {
        "data": {"values": rows},
        "mark": {"type": "bar", "binSpacing": 1},
        "encoding": {
            "x": quantity("low", "Milliseconds a step", bin="binned", axis=across, scale={"zero": False}),
            "x2": {"field": "high"},
            "y": quantity("count", None, axis=down),
            "color": colours("rest", {False: "var(--train)", True: "var(--valid)"}),
            "tooltip": [tip("said", "step"), tip("count", "count", ",")],
        },
    }
    total = sum(each.count for each in bins)
    peak = max(bins, key=lambda each: each.count)
    said = f"Lengths of {plural(total, 'step')}; most took {duration(peak.low)} to {duration(peak.high)}."
    legend = (("slowest 1 % together", "var(--valid)"),) if rest else ()
    return Chart("steps", "How long a step took", said, document(spec, 190), legend, "half")


def machine(use: MachineUse) -> list[Chart]:
    """One chart each for cores, memory, disk, network and, where there is one, the memory of each GPU."""
    curves: list[tuple[str, str, str, Sequence[tuple[str, str]]]] = list(_CURVES)
    for gpu, name in enumerate(use.gpus):
        curves.append((f"gpu{gpu}", f"GPU {gpu} memory ({name})", "bytes", ((f"gpu{gpu}_memory", "used"),)))
    found = [_lines(use, *each) for each in curves]
    return [each for each in found if each is not None]


def _lines(use: MachineUse, name: str, title: str, unit: str, series: Sequence[tuple[str, str]]) -> Chart | None:
    there = [(key, words) for key, words in series if key in use.curves]
    if not there or not any(value for key, _ in there for value in use.curves[key]):
        return None
    rows = [
        {"time": when, "value": value, "series": words, "said": _say(value, unit)}
        for key, words in there
        for when, value in zip(use.time, use.curves[key], strict=True)
        if value is not None
    ]
    chosen = {words: _COLOURS[at] for at, (_, words) in enumerate(there)}
    labels: Document = {"format": "~s"} if unit else {"format": "~g"}
    near = {"type": "point", "nearest": True, "on": "pointerover", "clear": "pointerout", "fields": ["time", "series"]}
    seen: Document = {"condition": {"param": "hover", "empty": False, "value": 1}, "value": 0}
    spec = {
        "data": {"values": rows},
        "encoding": {
            "x": quantity("time", "Seconds since the start", axis={"grid": False, "format": "~s", "tickCount": 6}),
            "y": quantity("value", unit or None, axis=labels | {"tickCount": 4, "domain": False, "ticks": False}),
            "color": colours("series", chosen),
        },
        "layer": [
            {"mark": {"type": "line", "strokeWidth": 1.5, "strokeJoin": "round"}},
            {
                "params": [{"name": "hover", "select": near}],
                "mark": {"type": "point", "filled": True, "size": 60},
                "encoding": {
                    "opacity": seen,
                    "tooltip": [tip("series"), tip("said", "value"), tip("time", "second", ".1f")],
                },
            },
        ],
    }
    said = f"{title} over time. " + " ".join(
        f"{words}: up to {_say(_most(use.curves[key]), unit)}." for key, words in there
    )
    return Chart(f"machine-{name}", title, said, document(spec, 150), tuple(chosen.items()), "half")


def _most(row: Row) -> float:
    return max((each for each in row if each is not None), default=0.0)


def _say(value: float, unit: str) -> str:
    return f"{value:.2f} cores" if not unit else size(value) + ("/s" if unit.endswith("/s") else "")
