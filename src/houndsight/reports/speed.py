"""What limited the speed of a run: its profile.json with the lengths of its steps, as the page shows them."""

from pathlib import Path
from typing import Any

import numpy as np

from houndsight.records.profiling import run as runs
from houndsight.records.timeline import read
from houndsight.reports.series import label, significant
from houndsight.reports.watched import Bin, Operation, Outlying, Speed
from houndsight.results import Verdict
from houndsight.spec import Finding

BINS = 40
"""Bars of the histogram of steps; the last one holds everything above the 99th percentile."""
OPERATORS = 20
"""Most operators listed."""
OUTLIERS = 20
"""Most outliers listed."""


def gather(document: dict[str, Any], records: Path) -> tuple[Speed | None, tuple[Finding, ...]]:
    """The speed and the profiler's findings from what profile.json holds; (None, ()) where that is empty."""
    if not document:
        return None, ()
    steps = document.get("steps") or {}
    outliers = document.get("outliers") or []
    speed = Speed(
        verdict=Verdict.create(**document["verdict"]) if document.get("verdict") else None,
        steps=steps.get("count", 0),
        seconds=steps.get("seconds") or {},
        images_per_second=steps.get("images_per_second"),
        histogram=histogram(records) if steps.get("count", 0) > 1 else (),
        outliers=tuple(_outlying(each) for each in outliers[:OUTLIERS]),
        outlier_count=len(outliers),
        operators=_operators(document.get("operators") or []),
        facts=_facts(document),
    )
    return speed, tuple(Finding.create(**each) for each in document.get("findings") or [])


def histogram(records: Path) -> tuple[Bin, ...]:
    """How long steps took, from the spans in `records`; evaluation and checkpoints are not counted to a step."""
    timeline = read(records, runs.read_facts(records).steps)
    each = timeline.each() if len(timeline.start) else np.empty(0)
    if len(each) < 2 or each.max() <= 0:
        return ()
    most = float(np.quantile(each, 0.99)) * 1.0001
    counts, edges = np.histogram(each[each <= most], min(BINS, max(5, len(each) // 4)))
    bins = [(float(low), float(high), int(n)) for low, high, n in zip(edges[:-1], edges[1:], counts, strict=True)]
    above = int((each > most).sum())
    if above:
        bins.append((most, float(each.max()), above))
    return tuple(Bin(low=significant(low), high=significant(high), count=n) for low, high, n in bins)


def _outlying(given: dict[str, Any]) -> Outlying:
    return Outlying(
        step=given["step"],
        seconds=significant(given["seconds"]),
        usual=significant(given["usual"]),
        part=label(given["part"]),
        cause=given["cause"],
    )


def _operators(given: list[dict[str, Any]]) -> tuple[Operation, ...]:
    total = sum(each["seconds"] + each.get("device_seconds", 0.0) for each in given)
    return tuple(
        Operation(
            name=each["name"],
            calls=each["calls"],
            seconds=significant(each["seconds"]),
            device_seconds=significant(each.get("device_seconds", 0.0)),
            share=significant((each["seconds"] + each.get("device_seconds", 0.0)) / total) if total else 0.0,
        )
        for each in given[:OPERATORS]
    )


def _facts(document: dict[str, Any]) -> dict[str, float]:
    places = {
        "flops_per_step": ("flops", "per_step"),
        "flops_per_second": ("flops", "per_second"),
        "flops_share": ("flops", "share"),
        "gpu_joules": ("energy", "gpu_joules"),
        "cost": ("energy", "cost"),
        "sampler_share_of_a_core": ("overhead", "sampler_share_of_a_core"),
    }
    found = {name: (document.get(part) or {}).get(key) for name, (part, key) in places.items()}
    return {name: significant(value) for name, value in found.items() if value is not None}
