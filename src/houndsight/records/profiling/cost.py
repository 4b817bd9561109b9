"""Energy and money that a run took: from the GPUs' own meters, and from a price an hour."""

from typing import Any

import numpy as np

from houndsight.records.profiling.run import Run

PRICES = {
    "ml.m5.large": 0.115,
    "ml.m5.xlarge": 0.23,
    "ml.m5.2xlarge": 0.461,
    "ml.m5.4xlarge": 0.922,
    "ml.c5.xlarge": 0.204,
    "ml.c5.2xlarge": 0.408,
    "ml.g4dn.xlarge": 0.736,
    "ml.g4dn.2xlarge": 0.94,
    "ml.g5.xlarge": 1.408,
    "ml.g5.2xlarge": 1.515,
    "ml.p2.xlarge": 1.125,
    "ml.p3.2xlarge": 3.825,
}
"""US dollars an hour of SageMaker training in us-east-1, on demand, as last published; yours by --price-per-hour."""


def document(run: Run) -> dict[str, Any] | None:
    """Joules of the GPUs, joules a step, and dollars where a price is known; None where nothing of it is."""
    joules = gpu_joules(run)
    price = price_per_hour(run)
    if joules is None and price is None:
        return None
    seconds = run.timeline.ended - run.timeline.began
    steps = run.timeline.steps
    return {
        "gpu_joules": joules,
        "gpu_joules_per_step": None if joules is None or steps == 0 else joules / steps,
        "price_per_hour": price,
        "cost": None if price is None else price * seconds / 3600,
    }


def price_per_hour(run: Run) -> float | None:
    """The price that was given, else that of the instance type."""
    if run.facts.price_per_hour is not None:
        return run.facts.price_per_hour
    return PRICES.get(run.facts.instance_type or "")


def gpu_joules(run: Run) -> float | None:
    """From the meters; from power times time for cards that have none; None without GPUs."""
    machine = run.machine
    if not machine.gpus or len(machine) == 0:
        return None
    total = 0.0
    for at in range(len(machine.gpus)):
        meter = machine.of_gpus("energy")[:, at]
        power = machine.of_gpus("power")[:, at]
        if np.isfinite(meter).sum() >= 2:
            known = meter[np.isfinite(meter)]
            total += float(np.maximum(np.diff(known), 0.0).sum())
        elif np.isfinite(power).any():
            total += float(np.nansum(power * machine.seconds))
        else:
            return None
    return total
