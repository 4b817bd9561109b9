"""`profile.json`: verdict, findings, phases, steps, machine, operators and energy of one run, made from its records."""

from pathlib import Path
from typing import Any

import numpy as np

from houndsight.records.machine import Machine, Series
from houndsight.records.profiling import cost, outliers, report, rules
from houndsight.records.profiling.run import Run
from houndsight.records.profiling.verdict import judge
from houndsight.records.timeline import Timeline
from houndsight.results import Verdict
from houndsight.spec import Finding

FORMAT_VERSION = 1


def document(run: Run, reports: list[report.Report] | None = None) -> dict[str, Any]:
    """All that can be said of a run's speed, ready to be written as JSON; `reports` are those of SageMaker's rules."""
    verdict = judge(run)
    found = outliers.find(run)
    reports = rules.evaluate(run) if reports is None else reports
    return {
        "format": FORMAT_VERSION,
        "verdict": verdict.model_dump(mode="json") if verdict else None,
        "findings": [each.model_dump(mode="json") for each in findings(run, verdict, found, reports)],
        "phases": phases(run.timeline),
        "steps": steps(run),
        "outliers": [each.document() for each in found[: outliers.MOST]],
        "machine": machine(run.machine),
        "operators": [each.model_dump(mode="json") for each in run.facts.operators],
        "flops": flops(run),
        "energy": cost.document(run),
        "overhead": overhead(run),
    }


def findings(
    run: Run, verdict: Verdict | None, found: list[outliers.Outlier], reports: list[report.Report]
) -> list[Finding]:
    """What was noticed: the verdict and its alternatives, the outliers, and SageMaker's rules."""
    causes = () if verdict is None else (verdict, *verdict.alternatives)
    said = [_finding(each) for each in causes if each.cause != "compute"]
    outlying = outliers.finding(run, found)
    return [*said, *([outlying] if outlying else []), *(each.finding() for each in reports)]


def _finding(verdict: Verdict) -> Finding:
    serious = verdict.gain >= 1.5 or verdict.cause == "memory_growth"
    return Finding(
        source="profiler",
        rule=verdict.cause,
        severity="warning" if serious else "info",
        message=verdict.message,
        repair=verdict.change,
        evidence={"gain": verdict.gain, "share": verdict.share, "expected": verdict.expected, **verdict.evidence},
    )


def phases(timeline: Timeline) -> list[dict[str, Any]]:
    """Seconds and share of each stage and of each part of the loop; the shares sum to 1."""
    found = timeline.phases()
    total = sum(seconds for _, _, seconds in found)
    return [
        {"name": name, "in_loop": inside, "seconds": seconds, "share": seconds / total if total > 0 else 0.0}
        for name, inside, seconds in found
    ]


def steps(run: Run) -> dict[str, Any]:
    """How many steps there were, how long they took, and what the loop's time went into."""
    loop = run.loop
    if loop.steps == 0:
        return {"count": 0}
    each, total = loop.each(), float(loop.parts.sum())
    batch = run.facts.batch_size
    return {
        "count": run.timeline.steps,
        "seconds": dict(zip(("min", "p50", "p95", "p99", "max"), quantiles(each), strict=True)),
        "images_per_second": None if batch is None else batch * loop.steps / total,
        "share": {name: seconds / total for name, seconds in loop.totals().items()},
    }


def quantiles(values: Series) -> list[float]:
    """Least, median, 95 and 99 % and largest."""
    return [float(each) for each in np.quantile(values, (0.0, 0.5, 0.95, 0.99, 1.0))]


def machine(seen: Machine) -> dict[str, Any]:
    """What the machine is, and how it was used on the whole."""
    if len(seen) == 0:
        return {"samples": 0}
    series = {
        "cpu": seen.cpu.mean(axis=1),
        "tree_cores": seen.tree,
        "others_cores": seen.others,
        "waited": seen.waited,
        "memory_used": seen.memory - seen.available,
        "rss": seen.rss,
        "pss": seen.pss,
        "major_faults": seen.major,
        "iowait": seen.iowait.max(axis=1),
        "disk_read": seen.disk[:, 0],
        "disk_written": seen.disk[:, 1],
        "received": seen.net[:, 0],
        "sent": seen.net[:, 1],
    }
    if seen.gpus:
        for name in ("utilisation", "memory_used", "power", "temperature"):
            series |= {f"gpu{at}_{name}": seen.of_gpus(name)[:, at] for at in range(len(seen.gpus))}
    known = {name: values[np.isfinite(values)] for name, values in series.items()}
    return {
        "samples": len(seen) + 1,
        "interval": seen.interval,
        "cores": seen.cores,
        "usable": seen.usable,
        "memory": seen.memory,
        "model": seen.model,
        "gpus": list(seen.gpus),
        "use": {
            name: dict(zip(("min", "p50", "p95", "p99", "max"), quantiles(values), strict=True))
            for name, values in known.items()
            if len(values)
        },
    }


def flops(run: Run) -> dict[str, Any] | None:
    """Arithmetic of a step, and the share of this machine's measured rate that it reaches; None where not counted."""
    facts, loop = run.facts, run.loop
    if not facts.flops_per_step or loop.steps == 0:
        return None
    rate = facts.flops_per_step * loop.steps / float(loop.parts.sum())
    return {
        "per_step": facts.flops_per_step,
        "per_second": rate,
        "machine_per_second": facts.flop_rate,
        "share": rate / facts.flop_rate if facts.flop_rate else None,
    }


def overhead(run: Run) -> dict[str, Any]:
    """What measuring cost: CPU seconds of the sampler, and time of the loop held up by a window of torch.profiler."""
    seconds = run.timeline.ended - run.timeline.began
    own = run.machine.own
    return {
        "sampler_cpu_seconds": own,
        "sampler_share_of_a_core": own / seconds if seconds > 0 else None,
        "window_seconds": run.facts.window_stall,
    }


def write_sagemaker(folder: Path, reports: list[report.Report]) -> None:
    """Write the reports of SageMaker's rules in its place and shape below `folder` (`rule-output`)."""
    place = folder / "ProfilerReport" / "profiler-output" / "profiler-reports"
    place.mkdir(parents=True, exist_ok=True)
    for each in reports:
        report.write(place, each)
