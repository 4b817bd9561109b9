"""Records with known contents: samples as the sampler writes them and spans as loops do, read back by the readers."""

import json
from pathlib import Path
from typing import Any

from houndsight.records import machine, timeline
from houndsight.records.machine import MACHINE, Machine
from houndsight.records.profiling.run import Facts, Run
from houndsight.records.schema import Span

BEGAN = 1_700_000_000.0
IDLE_GPU = (0.0, 0.0, 1e9, 50.0, 0.0, 1500.0, 5000.0, 0.0, 0.0, 0.0, 40.0)
GPU = {"name": "Test GPU", "memory": 10_000_000_000}


def sample(at: int, interval: float, **rates: Any) -> dict[str, Any]:
    """Counters after `at` intervals of constant rates; `gpu` and memory are values of the moment."""
    seconds = at * interval
    given: dict[str, Any] = {
        "cpu": 0.5,
        "cores": 4,
        "tree": 1.0,
        "main": 0.9,
        "waited": 0.0,
        "iowait": 0.0,
        "anonymous": 1e9,
        "available": 8e9,
        "swap": 0.0,
        "io": 0.0,
        "gpu": None,
        "throttled": 0.0,
    } | rates
    line: dict[str, Any] = {
        "t": BEGAN + seconds,
        "cpu": [[given["cpu"] * seconds, given["iowait"] * seconds, 0.0]] * given["cores"],
        "mem": [given["available"], 0],
        "page": [0, given["swap"] * seconds, 0],
        "disk": [0, 0],
        "net": [0, 0],
        "psi": [0, 0, 1e6 * given["io"] * seconds],
        "throttled": given["throttled"] * seconds,
        "tree": {
            "n": 1,
            "cpu": given["tree"] * seconds,
            "main": [7, given["main"] * seconds, given["waited"] * seconds],
            "rss": given["anonymous"],
            "anonymous": given["anonymous"],
            "pss": None,
            "minor": 0,
            "major": 0,
            "io": [0, 0],
            "kids": [],
        },
        "own": 0.0,
    }
    if given["gpu"] is not None:
        line["gpu"] = given["gpu"]
    return line


def header(interval: float, cores: int = 4, gpus: int = 0) -> dict[str, Any]:
    return {
        "format": 1,
        "time": BEGAN,
        "host": "ada",
        "pid": 7,
        "cores": cores,
        "usable": float(cores),
        "memory": 16_000_000_000,
        "model": "test",
        "gpus": [GPU] * gpus,
        "interval": interval,
    }


def write(folder: Path, lines: list[dict[str, Any]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MACHINE).write_text("".join(json.dumps(line) + "\n" for line in lines))


def machine_of(folder: Path, count: int, interval: float = 0.5, gpus: Any = None, **rates: Any) -> Machine:
    """`count` intervals; `gpus` is called with the number of the sample and returns a utilisation and bytes a GPU."""
    number = len(gpus(0)) if gpus else 0
    lines = [header(interval, rates.get("cores", 4), number)]
    for at in range(count + 1):
        now = {name: value(at) if callable(value) else value for name, value in rates.items()}
        if gpus:
            now["gpu"] = [(use, 0.0, used, *IDLE_GPU[3:]) for use, used in gpus(at)]
        lines.append(sample(at, interval, **now))
    write(folder, lines)
    return machine.read(folder)


def spans(steps: int, began: float = BEGAN, **parts: float) -> list[Span]:
    """Steps that are all alike; the parts of each follow one another."""
    found, now = [], began
    for step in range(steps):
        for name, seconds in parts.items():
            found.append(Span(name, step, now, seconds))
            now += seconds
    return found


def run_of(found: list[Span], seen: Machine | None = None, **facts: Any) -> Run:
    return Run(timeline.build(found), Machine() if seen is None else seen, Facts(**facts))
