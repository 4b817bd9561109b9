"""A run as a Chrome trace that opens in Perfetto: steps and their parts, pauses, and what the machine did, together."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from houndsight.records import machine as machines
from houndsight.records.machine import GPU_COLUMNS, Machine
from houndsight.records.reader import Records
from houndsight.records.timeline import LOOP, MARKS
from houndsight.workspace import atomic_write

_LOOP, _MARKS, _MACHINE = 1, 2, 3  # tracks


def write_trace(path: Path, folder: Path) -> int:
    """Write the trace of the records in `folder` to `path`; returns the number of events."""
    count = 0
    with atomic_write(path, "w") as file:
        file.write('{"displayTimeUnit": "ms", "traceEvents": [\n')
        for event in events(folder):
            file.write((",\n" if count else "") + json.dumps(event, separators=(",", ":")))
            count += 1
        file.write("\n]}\n")
    return count


def events(folder: Path) -> Iterator[dict[str, Any]]:
    """Events in the Trace Event Format: metadata, complete events (ph X) of spans, counters (ph C) of the machine.

    Times are microseconds since the first of them: the viewer keeps 53 bits, which whole epoch times would fill.
    """
    spans = sorted([*Records(folder).spans(), *Records(folder / LOOP).spans()], key=lambda each: each.start)
    seen = machines.read(folder)
    starts = [each.start for each in spans[:1]] + (seen.time - seen.seconds)[:1].tolist()
    zero = min(starts, default=0.0)
    for number, name in ((_LOOP, "training"), (_MARKS, "pauses"), (_MACHINE, "machine")):
        yield {"ph": "M", "name": "thread_name", "pid": 1, "tid": number, "args": {"name": name}}
    yield {"ph": "M", "name": "process_name", "pid": 1, "tid": 0, "args": {"name": "houndsight"}}
    for span in spans:
        yield {
            "ph": "X",
            "name": span.name,
            "cat": "mark" if span.name in MARKS else "part",
            "pid": 1,
            "tid": _MARKS if span.name in MARKS else _LOOP,
            "ts": round(1e6 * (span.start - zero), 3),
            "dur": round(1e6 * span.seconds, 3),
            "args": {"step": span.step},
        }
    yield from _counters(seen, zero)


def _counters(seen: Machine, zero: float) -> Iterator[dict[str, Any]]:
    if len(seen) == 0:
        return
    series: dict[str, dict[str, np.ndarray]] = {
        "CPU (%)": {f"core {at}": 100 * seen.cpu[:, at] for at in range(seen.cores)},
        "cores in use": {"training": seen.tree, "others": seen.others},
        "training's thread (%)": {"runs": 100 * seen.main, "waits for a core": 100 * seen.waited},
        "memory (MB)": {"training": seen.rss / 1e6, "free": seen.available / 1e6},
        "disk (MB/s)": {"read": seen.disk[:, 0] / 1e6, "written": seen.disk[:, 1] / 1e6},
        "network (MB/s)": {"received": seen.net[:, 0] / 1e6, "sent": seen.net[:, 1] / 1e6},
        "page faults (1/s)": {"from disk": seen.major, "others": seen.minor},
    }
    for at in range(len(seen.gpus)):
        for name in ("utilisation", "power", "temperature", "sm_clock"):
            series[f"GPU {at} {name}"] = {name: seen.gpu[:, at, GPU_COLUMNS.index(name)]}
        series[f"GPU {at} memory (MB)"] = {"used": seen.of_gpus("memory_used")[:, at] / 1e6}
    for name, values in series.items():
        for row, when in enumerate(seen.time - seen.seconds):  # a counter holds from its event on
            known = {key: round(float(column[row]), 3) for key, column in values.items() if np.isfinite(column[row])}
            if known:
                yield {
                    "ph": "C",
                    "name": name,
                    "pid": 1,
                    "tid": _MACHINE,
                    "ts": round(1e6 * (float(when) - zero), 3),
                    "args": known,
                }
