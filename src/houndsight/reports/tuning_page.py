"""What the page of a tuning says, as data: gathered from its folder and its trials' jobs, before it is HTML."""

import json
from typing import Any

from pydantic import Field

from houndsight.errors import HoundsightError
from houndsight.folders import TuningFolder
from houndsight.results import Measure
from houndsight.spec import Finding, Frozen, State, Status
from houndsight.tuning import leaderboard, trials
from houndsight.tuning.events import State as Search
from houndsight.tuning.events import Trial, read_state
from houndsight.tuning.importance import importance
from houndsight.tuning.objective import Course, curve_of
from houndsight.tuning.spec import TuningSpec
from houndsight.workspace import Workspace

CURVES = 60
"""Most trials whose course is drawn."""


class Ranked(Frozen):
    """One trial in the table."""

    place: int | None
    """Place among the completed trials, from 1; None for one that was not completed."""
    number: int
    """Number of the trial."""
    job: str
    """Its job."""
    state: str
    """How it ended."""
    role: str
    """default, search, reseed or final."""
    of: int | None
    """The trial that it repeats."""
    hyperparameters: dict[str, Any]
    """What it was tried with."""
    value: float | None
    """The objective; of one that was not completed, that of its last rung."""
    low: float | None
    """Lower end of the 95 % interval."""
    high: float | None
    """Upper end."""
    tied: bool
    """Whether chance does not tell it apart from the first."""
    p_value: float | None
    """McNemar's test against the first."""
    epochs: int
    """How far it came."""
    seconds: float
    """How long it ran."""
    reason: str
    """Why it was not completed."""


class Drawn(Frozen):
    """The course of one trial."""

    number: int
    """Number of the trial."""
    values: tuple[float, ...]
    """The validation value after each epoch, or each number of a script."""


class Axis(Frozen):
    """One hyperparameter as an axis."""

    name: str
    """Its name."""
    lower: str
    """What stands at the lower end."""
    upper: str
    """What stands at the upper end."""
    choices: tuple[str, ...] = ()
    """The values of one that has no range."""


class TuningPage(Frozen):
    """Everything on the page; `report.json` of a tuning."""

    tuning: str
    """Name of the tuning."""
    state: State | None
    """Where it stands."""
    objective: str
    """What was compared."""
    goal: str
    """maximize or minimize."""
    shares: bool
    """Whether the objective is a share of 1, to be read in percent."""
    strategy: str
    """How trials were chosen."""
    seconds: float
    """How long the search took."""
    trials: tuple[Ranked, ...]
    """Every trial, completed ones first, best first."""
    axes: tuple[Axis, ...]
    """The hyperparameters."""
    places: dict[int, dict[str, float]]
    """Trial -> hyperparameter -> where its value lies on the axis, 0 to 1."""
    courses: tuple[Drawn, ...]
    """How trials went."""
    course_name: str
    """What the courses show."""
    importance: dict[str, float]
    """Hyperparameter -> its share of what made the better trials better."""
    findings: tuple[Finding, ...]
    """What is remarkable."""
    best: dict[str, Any] | None
    """`best.json`."""
    final: dict[str, Measure] = Field(default_factory=dict)
    """Split -> accuracy of the final model."""
    failure: str = ""
    """Why the tuning failed."""


def gather(folder: TuningFolder, place: Workspace) -> TuningPage:
    """All that the page says; the same folders always give the same page."""
    spec, search = TuningSpec.read(folder.spec), read_state(folder.events)
    status = Status.read(folder.status)
    best = json.loads(folder.best.read_bytes()) if folder.best.is_file() else None
    found = json.loads(folder.findings.read_bytes())["findings"] if folder.findings.is_file() else []
    measured = ((best or {}).get("final") or {}).get("metrics", {})
    return TuningPage(
        tuning=folder.name,
        state=status.state,
        objective=spec.objective,
        goal=spec.goal,
        shares=not spec.is_script and spec.goal == "maximize",
        strategy=spec.strategy,
        seconds=search.seconds,
        trials=_trials(spec, search, place),
        axes=tuple(_axis(name, each) for name, each in spec.space.items()),
        places={each.number: _places(spec, each) for each in search.searched},
        courses=_courses(spec, search, place),
        course_name=":".join(curve_of(spec)[::-1]),
        importance=importance(spec, search),
        findings=tuple(Finding.model_validate(each) for each in found),
        best=best,
        final={split: Measure(**each["top1"]) for split, each in measured.items() if "top1" in each},
        failure=status.reason if status.state == "FAILED" else "",
    )


def _trials(spec: TuningSpec, search: Search, place: Workspace) -> tuple[Ranked, ...]:
    ranked = leaderboard.rank(spec, search, place)
    rows = [_ranked(row.trial, row) for row in ranked]
    there = {row.trial.number for row in ranked}
    return (*rows, *(_ranked(each, None) for each in search.trials if each.number not in there))


def _ranked(trial: Trial, row: leaderboard.Row | None) -> Ranked:
    return Ranked(
        place=row.place if row else None,
        number=trial.number,
        job=trial.job,
        state=trial.state,
        role=trial.role,
        of=trial.of,
        hyperparameters=trial.hyperparameters,
        value=trial.promise,
        low=trial.low,
        high=trial.high,
        tied=bool(row and row.tied),
        p_value=row.p_value if row else None,
        epochs=trial.epochs,
        seconds=trial.seconds,
        reason=trial.reason,
    )


def _axis(name: str, parameter: Any) -> Axis:
    choices = tuple(plain(each) for each in getattr(parameter, "choices", ()))
    ends = (choices[0], choices[-1]) if choices else (f"{parameter.low:g}", f"{parameter.high:g}")
    return Axis(name=name, lower=ends[0], upper=ends[1], choices=choices)


def _places(spec: TuningSpec, trial: Trial) -> dict[str, float]:
    """Where the trial's values lie; those of the default are what its job came to use."""
    values = trial.hyperparameters or trial.used
    known = {name: values[name] for name in spec.space if name in values and spec.space[name].holds(values[name])}
    return {name: round(spec.space[name].share(value), 4) for name, value in known.items()}


def _courses(spec: TuningSpec, search: Search, place: Workspace) -> tuple[Drawn, ...]:
    found = []
    for trial in search.searched[:CURVES]:
        try:
            values = Course(trials.job_of(place, trial).records, *curve_of(spec)).read()
        except (OSError, ValueError, HoundsightError):
            continue  # a job whose folder was deleted has no course to show
        if len(values) > 1:
            found.append(Drawn(number=trial.number, values=tuple(values)))
    return tuple(found)


def plain(value: Any) -> str:
    """A value as one would type it."""
    if isinstance(value, list | tuple):
        return "+".join(map(str, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
