"""The rules of SageMaker's profiler that look at the loop, its loader and the machine; they need no GPU."""

from typing import Any

import numpy as np

from houndsight.records.machine import Series
from houndsight.records.profiling import outliers
from houndsight.records.profiling.report import SECONDS, Report
from houndsight.records.profiling.rules_gpu import NODE, not_applicable
from houndsight.records.profiling.run import Run

_WAITS = 0.1
_BINS = 100


def short(run: Run) -> str:
    """Why a rule on the loop cannot speak yet, or ""."""
    seconds = run.timeline.loop_ended - run.timeline.loop_began
    if run.timeline.steps == 0:
        return "No step was recorded."
    if seconds < SECONDS:
        return f"The loop took {seconds:.0f} seconds, less than the {SECONDS:.0f} from which this is judged."
    return ""


def dataloader(run: Run, min_threshold: float = 70, max_threshold: float = 200) -> Report:
    """There are fewer data workers than `min_threshold` % of the cores, or more than `max_threshold` %.

    Repaired: too few are only complained of where the loop waits for its data; SageMaker's asks for as many workers as
    cores even where nothing waits.
    """
    parameters = {"min_threshold": min_threshold, "max_threshold": max_threshold}
    workers, reason = run.facts.workers, short(run)
    if reason or workers is None:
        return not_applicable("Dataloader", reason or "No data loader was seen.", parameters)
    loop = run.loop
    waits = loop.column("data") / np.maximum(loop.count, 1)
    share = float(loop.column("data").sum() / loop.parts.sum())
    few = workers < min_threshold / 100 * run.cores and share >= _WAITS
    many = workers > max_threshold / 100 * run.cores
    cores = int(max(1, run.cores))
    name = "--workers" if run.facts.worker_kind == "threads" else "num_workers"
    said = [f"{workers} data workers on {run.cores:.0f} cores; the loop waits for its data {share:.0%} of the time."]
    repair = f"{name} {workers} -> {cores}." if few or many else ""
    if few and run.facts.pin_memory is False and run.gpus:
        repair += " pin_memory=True makes the copies to the GPU run beside its work."
    counts, edges = np.histogram(waits, _BINS)
    low, middle, high = np.percentile(waits, (25, 50, 95))
    return Report(
        "Dataloader",
        "IssuesFound" if few or many else "NoIssuesFound",
        " ".join(said),
        repair,
        int(few or many),
        int(few or many),
        len(waits),
        parameters,
        {
            "pin_memory": run.facts.pin_memory,
            "num_workers": workers,
            "cores": cores,
            "dataloaders": run.facts.loaders,
            "dataloading_time": {
                "p25": float(low),
                "p50": float(middle),
                "p95": float(high),
                "probs": (counts / counts.sum()).tolist(),
                "binedges": edges.tolist(),
            },
        },
    )


def max_initialization_time(run: Run, threshold: float = 20) -> Report:
    """No step was done within `threshold` minutes."""
    timeline, parameters = run.timeline, {"threshold": threshold}
    seconds = timeline.loop_began - timeline.began
    fired = seconds > 60 * threshold
    details: dict[str, Any] = {"job_start": timeline.began, "job_end": timeline.ended}
    if timeline.steps:
        details["step_num"] = {"first": 1e6 * timeline.loop_began, "last": 1e6 * timeline.loop_ended}
    begun = f"The first step began after {seconds:.0f} seconds."
    return Report(
        "MaxInitializationTime",
        "IssuesFound" if fired else "NoIssuesFound",
        begun if timeline.steps else f"No step was recorded in {seconds:.0f} seconds.",
        "Look at what comes before the first step: the phases of the run." if fired else "",
        int(fired),
        int(fired),
        timeline.steps,
        parameters,
        details,
    )


def overall_framework_metrics(run: Run) -> Report:
    """Never fires: shares of time by phase and part, and the operators of the window."""
    timeline, operators = run.timeline, run.facts.operators
    whole = max(timeline.ended - timeline.began, 1e-9)
    totals = timeline.totals()
    evaluated = totals["evaluate"] + sum(each.seconds for each in timeline.stages if each.name == "evaluate")
    trained = max(0.0, sum(totals.values()) - totals["evaluate"])
    seconds = {"Step:ModeKeys.TRAIN": trained, "Step:ModeKeys.EVAL": evaluated}
    seconds["others"] = max(0.0, whole - sum(seconds.values()))
    cpu = {each.name: each.seconds for each in operators if each.seconds > 0}
    gpu = {each.name: each.device_seconds for each in operators if each.device_seconds > 0}
    both = sum(cpu.values()) + sum(gpu.values())
    details = {
        "phase": _percent(seconds),
        "phase_time": {name: 1e6 * each for name, each in seconds.items()},
        "CPU": _percent(cpu),
        "CPU_total": 1e6 * sum(cpu.values()),
        "GPU": _percent(gpu),
        "GPU_total": 1e6 * sum(gpu.values()),
        "general": {"Forward": 1e6 * totals["forward"], "DataLoaderIter": 1e6 * totals["data"]},
        "ratio": {
            "gpu_functions-dev:0": 100 * sum(gpu.values()) / both,
            "cpu_functions": 100 * sum(cpu.values()) / both,
        }
        if both
        else {},
    }
    shares = ", ".join(f"{name} {seconds / whole:.0%}" for name, _, seconds in timeline.phases())
    return Report(
        "OverallFrameworkMetrics", "NoIssuesFound", f"Where the time went: {shares}.", datapoints=timeline.steps,
        details=details,
    )  # fmt: skip


def _percent(seconds: dict[str, float]) -> dict[str, float]:
    total = sum(seconds.values())
    return {name: 100 * each / total for name, each in seconds.items()} if total > 0 else {}


def overall_system_usage(run: Run) -> Report:
    """Never fires: least, median, 95 and 99 % and most of cores, GPUs, memory, disk and network."""
    machine = run.machine
    if len(machine) == 0:
        return not_applicable("OverallSystemUsage", "The machine was not sampled.", {})
    cpu = 100 * machine.cpu.mean(axis=1)
    details: dict[str, Any] = {
        "Network": {NODE: _use(machine.net.sum(axis=1))},
        "GPU": {},
        "CPU": {NODE: _use(cpu)},
        "CPU memory": {NODE: _use(100 * (1 - machine.available / machine.memory))},
        "GPU memory": {},
        "I/O": {NODE: _use(100 * machine.iowait.max(axis=1))},
    }
    for at, each in enumerate(machine.gpus):
        details["GPU"][f"{NODE} gpu{at}"] = _use(machine.of_gpus("utilisation")[:, at])
        details["GPU memory"][f"{NODE} gpu{at}"] = _use(100 * machine.of_gpus("memory_used")[:, at] / each["memory"])
    said = f"The cores were busy {np.median(cpu):.0f} % in the median and {np.percentile(cpu, 95):.0f} % at the 95th."
    return Report("OverallSystemUsage", "NoIssuesFound", said, datapoints=len(machine) + 1, details=details)


def _use(values: Series) -> dict[str, float]:
    known = values[np.isfinite(values)]
    if len(known) == 0:
        return {}
    return dict(
        zip(("max", "p99", "p95", "p50", "min"), np.percentile(known, (100, 99, 95, 50, 0)).tolist(), strict=True)
    )


def step_outlier(
    run: Run, stddev: float = 3, n_outliers: int = 10, mode: str | None = None, threshold: float = 3
) -> Report:
    """More than `n_outliers` steps are `stddev` deviations slower than those around them.

    Repaired: the deviation is that of the median (MAD) in a rolling window, which the outliers themselves do not
    inflate; a step counts only where it is half as long again as usual, since of 100,000 healthy steps 135 lie beyond
    three standard deviations; and the rule speaks after 30 steps instead of 100. `threshold` is another name that
    SageMaker's reports give to `stddev`; the larger of both counts.
    """
    parameters = {"threshold": threshold, "mode": mode, "n_outliers": n_outliers, "stddev": stddev}
    reason = short(run)
    if not reason and run.loop.steps < outliers.FEWEST:
        reason = f"Fewer than {outliers.FEWEST} steps were recorded."
    if reason:
        return not_applicable("StepOutlier", reason, parameters)
    found = outliers.find(run, max(stddev, threshold))
    each = run.loop.each()
    counts, edges = np.histogram(each, _BINS)
    most, p99, p95, p50, least = np.percentile(each, (100, 99, 95, 50, 0)).tolist()
    fired = len(found) > n_outliers
    repair = outliers.finding(run, found)
    return Report(
        "StepOutlier",
        "IssuesFound" if fired else "NoIssuesFound",
        f"{len(found)} of {run.loop.steps} steps took far longer than those around them.",
        repair.repair if fired and repair else "",
        int(fired),
        len(found),
        run.loop.steps,
        parameters,
        {
            "step_details": {
                f"{NODE}-{run.machine.host or 'main'}": {
                    "step_stats": {
                        "mean": float(each.mean()), "max": most, "p99": p99, "p95": p95, "p50": p50, "min": least,
                    },
                    "number_of_outliers": len(found),
                    "phase": "Step:ModeKeys.TRAIN",
                    "stddev": float(each.std()),
                    "probs": (counts / counts.sum()).tolist(),
                    "binedges": edges.tolist(),
                    "step_numbers": sorted(outlier.step for outlier in found),
                }
            }
        },
        step=found[0].step if fired else None,
    )  # fmt: skip
