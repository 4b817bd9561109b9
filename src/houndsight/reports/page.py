"""What a report says, as frozen data: gathered by `summary`, drawn by `charts` and `html`, its twin is report.json."""

from typing import Any, Literal

from pydantic import Field

from houndsight.reports.ran import FailedAt, MachineFacts, Packed
from houndsight.results import ClassScore, Measure, Mistake, ReliabilityBin
from houndsight.spec import Finding, Frozen, Reject, State

FORMAT_VERSION = 1
"""Layout of report.json. 1: the first."""

Tone = Literal["good", "fair", "bad", "quiet"]


class Command(Frozen):
    """Something to type next."""

    purpose: str
    """What it does, in a few words."""
    command: str
    """The line, quoted for a shell."""


class Verdict(Frozen):
    """The answer to one question of the first screen."""

    tone: Tone
    """How it reads: good, fair, bad, or quiet where nothing is known."""
    headline: str
    """The answer in a few words."""
    detail: str
    """One or two sentences behind it."""


class Overview(Frozen):
    """The first screen."""

    trained: str
    """What was trained on what, in one sentence."""
    good: Verdict
    """How good it is."""
    healthy: Verdict
    """Whether the rules found anything."""
    speed: Verdict
    """What the time went into."""
    next: tuple[Command, ...]
    """What to type next."""


class ClassCount(Frozen):
    """How many images a class has."""

    name: str
    """Class name."""
    counts: dict[str, int]
    """split -> images."""


class DataTable(Frozen):
    """The data as it was trained on."""

    root: str
    """Folder that the paths are relative to."""
    fingerprint: str
    """`Index.fingerprint`."""
    split_seed: int | None
    """Seed of the split if Houndsight made it."""
    images: dict[str, int]
    """split -> images."""
    bytes: dict[str, int]
    """split -> bytes."""
    classes: tuple[ClassCount, ...]
    """In the order of the network's outputs."""
    rejected: int
    """How many files were left out."""
    rejects: tuple[Reject, ...]
    """The first of them."""


class Point(Frozen):
    """The values of a scalar within one bucket of steps."""

    step: int
    """Last step of the bucket."""
    value: float | None
    """Mean of its finite values; None where there is none."""
    low: float | None
    """Smallest of them."""
    high: float | None
    """Largest of them."""
    count: int
    """How many values, the non-finite ones included."""


class Curve(Frozen):
    """One scalar in one mode over the run."""

    name: str
    """Name of the scalar."""
    mode: str
    """train or valid, or what a script called it."""
    points: tuple[Point, ...]
    """At most `series.BUCKETS`."""
    count: int
    """How many values were recorded."""
    first: float | None
    """First finite value."""
    last: float | None
    """Last finite value."""
    best: float | None
    """Smallest, or for an accuracy largest, finite value. None in training, where the best of single
    batches is luck, and for values that are neither good nor bad."""
    best_step: int | None
    """Where that was."""
    nonfinite: int
    """How many values were NaN or infinite."""
    nonfinite_step: int | None
    """Where the first of these was."""


class Share(Frozen):
    """What one kind of work took of the run."""

    kind: str
    """Name of the spans; `rest` for time outside all of them."""
    label: str
    """The same in words."""
    seconds: float
    """Time in such spans, without the spans inside them."""
    share: float
    """Part of the wall time, 0 to 1."""
    count: int
    """How many spans."""
    median: float | None
    """Seconds of the median span."""
    p95: float | None
    """Seconds that 95 % of the spans stay within."""


class Slice(Frozen):
    """The shares within a piece of the run."""

    start: float
    """Seconds since the first span began."""
    end: float
    """Seconds since the first span began."""
    shares: dict[str, float]
    """kind -> part of this slice, summing to 1."""


class TimeUse(Frozen):
    """Where the time went; the shares sum to 1."""

    wall: float
    """Seconds from the first span's beginning to the last one's end, without the pauses."""
    paused: float
    """Seconds of pauses, in which nothing was recorded: a job that was stopped and resumed was away then."""
    shares: tuple[Share, ...]
    """Largest first."""
    slices: tuple[Slice, ...]
    """The same over the run."""


class Cell(Frozen):
    """One non-empty cell of the confusion matrix."""

    label: int
    """Row: position of the true class."""
    predicted: int
    """Column: position of the predicted class."""
    count: int
    """Images."""
    share: float
    """Part of the true class's images."""


class Confused(Frozen):
    """Two classes that were taken for each other."""

    label: str
    """The true class."""
    predicted: str
    """What it was taken for."""
    count: int
    """How often."""
    of: int
    """Images of the true class."""
    back: int
    """How often the other way round."""


class Result(Frozen):
    """The evaluation of one split."""

    split: str
    """Which split."""
    images: int
    """How many images."""
    classes: tuple[str, ...]
    """In the order of the confusion matrix."""
    metrics: dict[str, Measure]
    """As evaluated, each with its interval."""
    per_class: tuple[ClassScore, ...]
    """One entry a class."""
    cells: tuple[Cell, ...]
    """The confusion matrix without its zeros."""
    cells_left_out: int
    """Rarest cells left out so that the page stays small."""
    confused: tuple[Confused, ...]
    """The most confused pairs, worst first."""
    temperature: float
    """What the logits were divided by."""
    reliability: tuple[ReliabilityBin, ...]
    """After temperature scaling."""
    reliability_uncalibrated: tuple[ReliabilityBin, ...]
    """Before it."""
    mistakes: tuple[Mistake, ...]
    """The most confident mistakes, worst first."""


class Setting(Frozen):
    """One setting of the run."""

    name: str
    """Field of the spec."""
    value: Any
    """What it was."""
    default: Any
    """What it would have been without anybody saying anything."""
    origin: Literal["given", "decided", "default"]
    """Given by the user, decided from the data and the machine, or the default."""
    meaning: str
    """What it means."""


class Run(Frozen):
    """What was run, and how to run it again."""

    kind: str
    """classifier, script, ..."""
    settings: tuple[Setting, ...]
    """Given ones first, then decided ones, then defaults."""
    facts: dict[str, str]
    """Weights, licence, times, back end."""
    versions: dict[str, str]
    """Package versions."""
    repeat: str
    """The command that does it again; empty where none does."""


class Failure(Frozen):
    """Why the job did not end well."""

    kind: str
    """Kind of the error; empty where the process just died."""
    message: str
    """What was wrong."""
    repair: str
    """What to do about it."""
    log: tuple[str, ...]
    """The log around it: the error with what led to it, else its last lines."""
    marked: tuple[int, ...] = ()
    """Which of these lines, from 0, name the error or its place."""
    place: FailedAt | None = None
    """Where in its own code a script failed."""
    said: str = ""
    """The text of `output/failure`, where it says more than `message`."""


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


class Page(Frozen):
    """The whole report."""

    format: int = FORMAT_VERSION
    """Layout of this document."""
    job: str
    """Name of the job."""
    state: State | None
    """Where it stands; None where no status can be read."""
    overview: Overview
    """The first screen."""
    findings: tuple[Finding, ...] = ()
    """What the check and the rules said."""
    data: DataTable | None = None
    """The data."""
    curves: tuple[Curve, ...] = ()
    """Scalars over the run."""
    time: TimeUse | None = None
    """Where the time went."""
    results: tuple[Result, ...] = Field(default=())
    """Test first."""
    run: Run | None = None
    """What was run."""
    script: ScriptRun | None = None
    """How it ran, where it is a script."""
    failure: Failure | None = None
    """Why it failed."""
    notes: tuple[str, ...] = ()
    """What could not be read, in sentences."""
