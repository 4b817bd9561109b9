"""Steps that took far longer than those around them, each with what happened at that time."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from houndsight.records.profiling.run import Run
from houndsight.records.timeline import STEP_PARTS, Timeline
from houndsight.spec import Finding

MOST = 50
"""Outliers that are told one by one."""
WINDOW = 101
"""Groups of steps around each one that it is compared with."""
FEWEST = 30
_MAD = 1.4826  # turns the median absolute deviation of normal numbers into their standard deviation
_LEAST = 0.5  # an outlier takes at least half as long again as the usual step, however even the others are
_SERIOUS = 0.02


@dataclass(frozen=True)
class Outlier:
    """One group of steps that took too long."""

    step: int
    """Its first step, from 0."""
    start: float
    """When it began, seconds since the epoch."""
    seconds: float
    """Mean length of its steps."""
    usual: float
    """Median around it, in seconds."""
    excess: float
    """Seconds lost."""
    part: str
    """The part of the loop that grew most."""
    cause: str
    """gc, checkpoint, evaluation, data, swap, neighbour, throttle, debugger, window or unknown."""

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def find(run: Run, deviations: float = 6.0) -> list[Outlier]:
    """Groups beyond the rolling median by `deviations` robust standard deviations, the dearest first.

    Mean and standard deviation, which SageMaker takes, are inflated by the very outliers; median and MAD are not.
    Evaluation and checkpoints have parts of their own and no step is an outlier for having one of them.
    """
    loop = run.loop
    chosen = np.flatnonzero(loop.count > 0)
    if len(chosen) < FEWEST:
        return []
    each = loop.each()
    middle, spread = rolling(each)
    limit = middle + np.maximum(deviations * spread, _LEAST * middle)
    usual = np.median(loop.parts[chosen] / loop.count[chosen, None], axis=0)
    found = []
    for at in np.flatnonzero(each > limit):
        group = int(chosen[at])
        count = int(loop.count[group])
        grown = loop.parts[group] / count - usual
        grown[[STEP_PARTS.index("evaluate"), STEP_PARTS.index("checkpoint")]] = 0.0
        part = STEP_PARTS[int(np.argmax(grown))]
        excess = float((each[at] - middle[at]) * count)
        found.append(
            Outlier(
                step=int(loop.step[group]),
                start=float(loop.start[group]),
                seconds=float(each[at]),
                usual=float(middle[at]),
                excess=excess,
                part=part,
                cause=_cause(run, loop, group, part, excess),
            )
        )
    return sorted(found, key=lambda outlier: -outlier.excess)


def rolling(values: NDArray[np.float64], window: int = WINDOW) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Median and robust standard deviation of the `window` values around each, fewer at the ends, both (n,)."""
    window = min(window, len(values) - (len(values) % 2 == 0))
    views = np.lib.stride_tricks.sliding_window_view(values, window)  # (n - window + 1, window)
    middle = np.median(views, axis=1)
    spread = np.empty(len(middle))
    for at in range(0, len(middle), 4096):  # bounds the memory: 4096 x 101 x 8 bytes
        part = views[at : at + 4096]
        spread[at : at + 4096] = _MAD * np.median(np.abs(part - middle[at : at + 4096, None]), axis=1)
    edge = window // 2
    end = len(values) - len(middle) - edge
    return np.pad(middle, (edge, end), mode="edge"), np.pad(spread, (edge, end), mode="edge")


def _cause(run: Run, loop: Timeline, group: int, part: str, excess: float) -> str:
    """What happened in that group: marks first, then what the machine did, then the part itself."""
    start = float(loop.start[group])
    end = start + float(loop.parts[group].sum())
    marked: dict[str, float] = {}
    for mark in loop.marks:
        overlap = min(end, mark.start + mark.seconds) - max(start, mark.start)
        if overlap > 0:
            marked[mark.name] = marked.get(mark.name, 0.0) + overlap
    for name, seconds in sorted(marked.items(), key=lambda each: -each[1]):
        if seconds >= 0.5 * excess:
            return name
    if part in ("data", "debugger", "profiler"):
        return {"profiler": "window"}.get(part, part)
    return _surroundings(run, start, end, excess)


def _surroundings(run: Run, start: float, end: float, excess: float) -> str:
    """What the machine did in that time that could have cost so much."""
    machine = run.machine
    during = (machine.time > start) & (machine.time - machine.seconds < end)
    if not during.any():
        return "unknown"
    of = machine.seconds[during]
    swapped, throttled, waited, major = (
        float(np.nansum(series[during] * of))
        for series in (machine.swap, machine.throttled, machine.waited, machine.major)
    )
    if swapped > 50 or major > 50:
        return "swap"
    if throttled >= 0.5 * excess or _gpu_throttled(run, during):
        return "throttle"
    if waited >= 0.5 * excess and float(np.nanmean(machine.others[during])) > 0.25:
        return "neighbour"
    return "unknown"


_HELD_BACK = 0x8 | 0x20 | 0x40 | 0x80  # hardware slowdown, software and hardware thermal slowdown, power brake


def _gpu_throttled(run: Run, during: NDArray[np.bool_]) -> bool:
    if not run.machine.gpus:
        return False
    reasons = run.machine.of_gpus("throttle")[during]
    return bool((np.nan_to_num(reasons).astype(np.int64) & _HELD_BACK).any())


def finding(run: Run, found: list[Outlier]) -> Finding | None:
    """One finding on all outliers, where they cost enough to be worth a word."""
    total = float(run.loop.parts.sum())
    lost = sum(each.excess for each in found)
    if not found or total <= 0 or lost / total < _SERIOUS:
        return None
    causes: dict[str, float] = {}
    for each in found:
        causes[each.cause] = causes.get(each.cause, 0.0) + each.excess
    by = ", ".join(f"{_WORDS[name]} {seconds / lost:.0%}" for name, seconds in sorted(causes.items(), key=_dearest))
    main = min(causes.items(), key=_dearest)[0]
    return Finding(
        source="profiler",
        rule="slow_steps",
        severity="info" if lost / total < 0.1 else "warning",
        step=found[0].step,
        message=f"{len(found)} slow steps cost {lost / total:.0%} of the time: {by}.",
        repair=_REPAIRS.get(main, ""),
        evidence={"lost_seconds": lost, "share": lost / total, "seconds_by_cause": causes},
    )


def _dearest(item: tuple[str, float]) -> float:
    return -item[1]


_WORDS = {
    "gc": "garbage collection",
    "data": "late data",
    "swap": "pages read from the disk",
    "throttle": "cores or GPU held back",
    "neighbour": "other programs",
    "debugger": "the debugger",
    "window": "the profiler's own window",
    "worker": "a data worker that started or ended",
    "unknown": "nothing that was recorded",
}
_REPAIRS = {
    "gc": "Call gc.freeze() after the set-up, and gc.collect() between epochs.",
    "data": "See what the slow batches read; more workers and prefetch_factor smooth single slow ones.",
    "swap": "Take a smaller batch or fewer workers: memory is short.",
    "throttle": "Look at temperature and power limits, or at the container's quota.",
    "neighbour": "End other programs on this machine.",
}
