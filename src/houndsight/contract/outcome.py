"""What a script's run came to, gathered for `script.json`: its metrics, the place of its failure, its machine."""

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from houndsight.contract.environment import Machine
from houndsight.contract.failure import FailureText
from houndsight.contract.life import Ending
from houndsight.contract.metrics import Metric
from houndsight.reports.ran import FailedAt, MachineFacts, MetricSummary

PACKAGES = ("houndsight", "torch", "torchvision", "numpy")
LONGEST = 400
"""Most characters of a line of the excerpt: a minified file has lines of megabytes."""


def summary(metric: Metric) -> MetricSummary:
    """What a metric came to."""
    return MetricSummary(
        expression=metric.pattern.pattern,
        count=metric.found,
        last=metric.last,
        lowest=metric.lowest,
        highest=metric.highest,
        skipped=metric.skipped,
        gave_up=metric.gave_up,
    )


def failed_at(text: FailureText, code: Path, around: int = 3) -> FailedAt | None:
    """The place of a failure with `around` lines of the script on either side."""
    place = text.place(code)
    if place is None:
        return None
    file, line = place
    lines = (code / file).read_text(encoding="utf-8", errors="replace").splitlines()
    first = max(1, line - around)
    excerpt = tuple(each[:LONGEST] for each in lines[first - 1 : line + around])
    return FailedAt(file=file, line=line, excerpt=excerpt, first_line=first)


def machine_facts(machine: Machine, ending: Ending) -> MachineFacts:
    """The machine that the script was told of, and what the script took of it."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return MachineFacts(
        system=f"{platform.system()} {platform.release()}, {platform.machine()}",
        cpus=machine.cpus,
        gpus=machine.gpus,
        memory=psutil.virtual_memory().total,
        cpu_seconds=round(ending.cpu_seconds, 3),
        peak_memory=ending.peak_memory,
        versions=found,
    )
