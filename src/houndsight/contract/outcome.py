"""How a script ran, as `script.json` in the job's folder: what the report and the command line show of it."""

from pathlib import Path

from pydantic import Field

from houndsight.contract.failure import FailureText
from houndsight.contract.metrics import Metric
from houndsight.spec import Frozen


class MetricSummary(Frozen):
    """One metric over the whole run; its curve is in the records, mode `script`."""

    expression: str
    """The regular expression."""
    count: int
    """How many numbers it found."""
    last: float | None = None
    """The last of them: what SageMaker calls the final metric."""
    lowest: float | None = None
    """The lowest."""
    highest: float | None = None
    """The highest."""
    skipped: int = 0
    """Matches that were no finite number."""
    gave_up: bool = False
    """The expression took too long and was given up."""


class FailedAt(Frozen):
    """Where in its own code a script failed."""

    file: str
    """Path relative to the job's code."""
    line: int
    """Line, from 1."""
    excerpt: tuple[str, ...] = ()
    """The lines around it."""
    first_line: int = 1
    """Number of the excerpt's first line."""


class ScriptOutcome(Frozen):
    """One run of a script, from its first process to its last."""

    command: tuple[str, ...]
    """What was started."""
    exit_code: int
    """Its exit code; negative for a signal."""
    seconds: float
    """How long it ran."""
    stopped: str = ""
    """Why it was stopped, where it was."""
    killed: int = 0
    """Processes that it left behind and that had to be killed."""
    metrics: dict[str, MetricSummary] = Field(default_factory=dict)
    """What each metric came to."""
    failure: str = ""
    """The text of `output/failure`."""
    failed_at: FailedAt | None = None
    """The innermost line of the script's own code in its last traceback."""
    traceback: tuple[str, ...] = ()
    """The last lines of that traceback."""
    not_installed: tuple[str, ...] = ()
    """Packages that the script's requirements.txt asks for and that are not installed here."""


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
    return FailedAt(file=file, line=line, excerpt=tuple(lines[first - 1 : line + around]), first_line=first)
