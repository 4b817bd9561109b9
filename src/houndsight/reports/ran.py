"""How a script ran, as `script.json` in the job's folder: written at its end by `contract`, read by the page and the
command line.
"""

from typing import Any

from pydantic import Field

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


class MachineFacts(Frozen):
    """What a script ran on, and what it took of it."""

    system: str = ""
    """Operating system, release and architecture."""
    cpus: int = 0
    """Processors that the script was told of."""
    gpus: int = 0
    """GPUs that the script was told of."""
    memory: int = 0
    """Bytes of main memory."""
    cpu_seconds: float | None = None
    """Processor time of the script and of the processes that it waited for."""
    peak_memory: int | None = None
    """Bytes that its largest process held at most; None where that cannot be told."""
    versions: dict[str, str] = Field(default_factory=dict)
    """Package -> version."""


class PackedFile(Frozen):
    """One file inside an archive."""

    path: str
    """Its name there."""
    bytes: int
    """Its size, unpacked."""


class Packed(Frozen):
    """One archive that was made of what the script left."""

    files: tuple[PackedFile, ...]
    """The first of its files, by name."""
    count: int
    """How many files it holds."""
    bytes: int
    """Their size in all, unpacked."""


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
    error: str = ""
    """The failure in one line for people: the exception, or the last line before the exit code."""
    failed_at: FailedAt | None = None
    """The innermost line of the script's own code in its last traceback."""
    traceback: tuple[str, ...] = ()
    """The last lines of that traceback."""
    not_installed: tuple[str, ...] = ()
    """Packages that the script's requirements.txt asks for and that are not installed here."""
    machine: MachineFacts | None = None
    """What it ran on."""
    packed: dict[str, Packed] = Field(default_factory=dict)
    """Name of the archive in `output/` -> what it holds."""


class ScriptMetric(Frozen):
    """What a metric of a script came to, over all starts of the job."""

    name: str
    """Its name."""
    expression: str
    """The regular expression."""
    count: int
    """How many numbers were found."""
    last: float | None
    """The last of them."""
    best: float | None
    """The lowest or highest, where the name says which is better."""
    best_step: int | None
    """Which number that was, from 0."""
    lowest: float | None
    """The lowest."""
    highest: float | None
    """The highest."""
    skipped: int
    """Matches that were no finite number."""
    gave_up: bool
    """The expression took too long and was given up."""


class Archive(Frozen):
    """One archive of what a script left."""

    name: str
    """File name in the job's `output` folder."""
    bytes: int
    """Its own size."""
    holds: Packed | None
    """What is in it; None where nobody wrote that down."""


class ScriptRun(Frozen):
    """A script as it ran."""

    entry_point: str
    """The script, relative to its source folder."""
    source: str
    """Folder that its code was copied from."""
    alone: bool
    """The script was copied without the rest of that folder."""
    command: tuple[str, ...]
    """What was started; empty where it was not."""
    channels: dict[str, str]
    """Channel -> folder."""
    hyperparameters: dict[str, Any]
    """Name -> value."""
    environment: tuple[str, ...]
    """Names of further environment variables; their values may be secrets."""
    limit: float | None
    """Longest time in seconds."""
    exit_code: int | None
    """Its exit code; negative for a signal."""
    seconds: float | None
    """How long it ran."""
    reason: str
    """Why it was stopped, where it was."""
    killed: int
    """Processes that it left behind and that had to be killed."""
    not_installed: tuple[str, ...]
    """Packages that it asks for and that are not installed."""
    metrics: tuple[ScriptMetric, ...]
    """In the order in which they were given."""
    machine: MachineFacts | None
    """What it ran on."""
    archives: tuple[Archive, ...]
    """What it left."""
