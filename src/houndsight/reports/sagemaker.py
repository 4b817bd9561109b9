"""The profiler's report in SageMaker's place and order: from its rules' JSON files to `profiler-report.html`."""

import datetime
import json
from pathlib import Path
from typing import Any

from houndsight.folders import JobFolder
from houndsight.reports import html
from houndsight.reports.numbers import duration
from houndsight.reports.watched import Speed
from houndsight.workspace import Workspace, atomic_write

DESCRIPTIONS = {
    "BatchSize": "Batches so small that CPU, GPU and GPU memory are all little used.",
    "CPUBottleneck": "The GPU waits while a core of the CPU is busy.",
    "Dataloader": "More or fewer data workers than cores, or batches that are waited for.",
    "GPUMemoryIncrease": "GPU memory that grows.",
    "IOBottleneck": "The GPU waits while a core waits for a disk.",
    "LoadBalancing": "GPUs that are used unevenly.",
    "LowGPUUtilization": "A GPU that is little used, or used unsteadily.",
    "MaxInitializationTime": "Too long a time before the first step.",
    "OverallFrameworkMetrics": "What the steps consist of.",
    "OverallSystemUsage": "How the machine was used.",
    "StepOutlier": "Steps that take far longer than the others.",
}
"""What each of SageMaker's rules looks for."""
UNITS = {"Network": "bytes/s", "I/O": "%"}
OPERATORS = 12
"""Most operators listed."""


def build(job: JobFolder, speed: Speed | None, repairs: dict[str, str]) -> bool:
    """Write the page; `repairs` are recommendations by rule. False where the rules have written nothing."""
    reports = read(job.sagemaker_page.parent / "profiler-reports")
    if not reports:
        return False
    text = render(job, reports, speed, repairs)
    with atomic_write(job.sagemaker_page) as file:
        file.write(text.encode())
    return True


def read(folder: Path) -> dict[str, dict[str, Any]]:
    """What each rule reported, by its name; a torn file is left out."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        try:
            document = json.loads(path.read_bytes())
        except ValueError:
            continue
        if isinstance(document, dict) and "RuleTriggered" in document:
            found[path.stem] = document
    return found


def render(job: JobFolder, reports: dict[str, dict[str, Any]], speed: Speed | None, repairs: dict[str, str]) -> str:
    """The page as HTML."""
    details = {name: each.get("Details") or {} for name, each in reports.items()}
    framework = details.get("OverallFrameworkMetrics", {})
    rows = sorted(reports.items(), key=lambda each: (-each[1]["RuleTriggered"], each[0]))
    operators = {
        kind: sorted(framework.get(kind, {}).items(), key=lambda each: -each[1])[:OPERATORS] for kind in ("CPU", "GPU")
    }
    loaders = details.get("Dataloader", {})
    return html.fill(
        "profiler.html",
        {},
        Workspace(job.path.absolute().parent.parent),
        job=job.name,
        home="../../../report.html",
        verdict=speed.verdict if speed else None,
        summary=_summary(details.get("MaxInitializationTime", {})),
        system=_system(details.get("OverallSystemUsage", {})),
        phases=framework.get("phase", {}),
        operators=operators,
        rules=rows,
        most=rows[0][0] if rows and rows[0][1]["RuleTriggered"] else "",
        descriptions=DESCRIPTIONS,
        repairs=repairs,
        steps=details.get("StepOutlier", {}).get("step_details", {}),
        loaders=loaders,
        loading=_bars(loaders.get("dataloading_time") or {}),
    )


def _summary(details: dict[str, Any]) -> list[tuple[str, str]]:
    """SageMaker's job statistics: beginning, loop and end, and what share each took."""
    began, ended = details.get("job_start"), details.get("job_end")
    if not began or not ended:
        return []
    rows = [("Start time", _moment(began)), ("End time", _moment(ended)), ("Job duration", duration(ended - began))]
    steps = details.get("step_num")
    if not steps:
        return rows
    first, last = steps["first"] / 1e6, steps["last"] / 1e6
    parts = (("Initialization", first - began), ("Training loop", last - first), ("Finalization", ended - last))
    rows += [("Training loop start", _moment(first)), ("Training loop end", _moment(last))]
    rows += [(f"{name} time", duration(max(0.0, seconds))) for name, seconds in parts]
    whole = max(ended - began, 1e-9)
    return rows + [(name, f"{100 * max(0.0, seconds) / whole:.1f} %") for name, seconds in parts]


def _system(details: dict[str, Any]) -> list[tuple[str, str, str, list[float]]]:
    """(node, metric, unit, [max, p99, p95, p50, min]) of what was measured."""
    return [
        (node, metric, UNITS.get(metric, "%"), [values[key] for key in ("max", "p99", "p95", "p50", "min")])
        for metric, nodes in details.items()
        for node, values in nodes.items()
    ]


def _bars(histogram: dict[str, Any]) -> list[tuple[float, float]]:
    """(height from 0 to 1, upper edge in seconds) of each bar."""
    shares, edges = histogram.get("probs") or [], histogram.get("binedges") or []
    most = max(shares, default=0.0)
    return [(share / most, edge) for share, edge in zip(shares, edges[1:], strict=False)] if most else []


def _moment(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
