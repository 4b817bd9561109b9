"""What a report says, as frozen data: gathered by `summary`, drawn by `charts` and `html`, its twin is report.json."""

from typing import Any, Literal

from pydantic import Field

from houndsight.reports.ran import FailedAt, ScriptRun
from houndsight.reports.watched import Line, MachineUse, Speed, TensorMaps
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


class Repair(Frozen):
    """Something to change before the next run."""

    text: str
    """What to change, with exact values."""
    rule: str
    """The rule that says so."""
    severity: str
    """error, warning or info."""
    gain: float | None = None
    """How many times as fast a training would be with it; None where it is not about speed."""


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
    repairs: tuple[Repair, ...] = ()
    """What to change, the most serious first."""


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
    evidence: tuple[Line, ...] = ()
    """The series behind findings."""
    tensors: TensorMaps | None = None
    """Layers over the steps."""
    time: TimeUse | None = None
    """Where the time went."""
    speed: Speed | None = None
    """What limited the speed."""
    machine: MachineUse | None = None
    """What the machine did."""
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
