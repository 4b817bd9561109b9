"""What came of a trial: the objective out of a job's folder, its interval, and its course while the job runs."""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from houndsight.errors import SpecError, did_you_mean
from houndsight.folders import JobFolder
from houndsight.records.reader import Records
from houndsight.records.schema import EVENTS
from houndsight.results import Evaluation, Measure
from houndsight.tuning.spec import Goal, TuningSpec

METRICS = {
    "accuracy": "top1",
    "top1": "top1",
    "top5": "top5",
    "balanced_accuracy": "balanced_accuracy",
    "macro_f1": "macro_f1",
    "loss": "loss_uncalibrated",
    "calibrated_loss": "loss",
    "ece": "ece",
}
"""Metric after `valid:` -> its name in the evaluation of the model that the trial kept."""
_LOWER = ("loss", "error", "ece", "perplexity", "mse", "mae", "rmse", "time", "seconds")
SCRIPT = "script"
"""Mode of the numbers that a script prints."""


def usual_goal(objective: str) -> Goal:
    """Minimize for what is a loss or an error by its name, else maximize."""
    words = objective.casefold().replace("-", "_").replace(":", "_").replace(" ", "_")
    lower = any(each in words.split("_") or words.endswith(each) for each in _LOWER)
    return "minimize" if lower else "maximize"


def check_objective(objective: str, script: bool, metrics: dict[str, str]) -> str:
    """What is wrong with the objective, in a sentence; empty where nothing is."""
    if script:
        if objective in metrics:
            return ""
        return (
            f"objective: nothing reads {objective!r} from the log; write --objective 'NAME=REGEX' with one group "
            f"around the number. {did_you_mean(objective, metrics)}"
        ).strip()
    split, _, metric = objective.rpartition(":")
    if split == "test":
        return f"objective: trials never see the test split; take valid:{metric}"
    if split not in ("", "valid") or metric not in METRICS:
        hint = did_you_mean(metric, METRICS) or f"There are valid:{', valid:'.join(METRICS)}."
        return f"objective: there is no {objective!r}. {hint}"
    return ""


def full_name(objective: str) -> str:
    """`accuracy` as `valid:accuracy`."""
    return objective if ":" in objective else f"valid:{objective}"


def curve_of(spec: TuningSpec) -> tuple[str, str]:
    """(name, mode) of the recorded series that shows how a trial is doing, as near to the objective as there is."""
    if spec.is_script:
        return spec.objective, SCRIPT
    return (
        "loss" if METRICS[spec.objective.partition(":")[2]] in ("loss", "loss_uncalibrated", "ece") else "accuracy"
    ), "valid"


@dataclass(frozen=True)
class Outcome:
    """What a finished trial came to."""

    value: float | None
    """The objective; None where the job left none."""
    low: float | None = None
    """Lower end of its 95 % interval, where it has one."""
    high: float | None = None
    """Upper end."""
    n: int | None = None
    """Images it rests on."""
    metrics: dict[str, dict[str, dict[str, float | None]]] = field(default_factory=dict)
    """Split -> metric -> value, low, high, n; of a script, everything under `script`."""


def outcome(job: JobFolder, spec: TuningSpec) -> Outcome:
    """The objective of a completed job and everything that it measured on validation."""
    if spec.is_script:
        return _of_script(job, spec)
    path = job.evaluation / "valid.json"
    if not path.is_file():
        return Outcome(None)
    measures = Evaluation.read(path).metrics
    found = measures.get(METRICS[spec.objective.partition(":")[2]])
    metrics: Any = {"valid": {name: each.model_dump() for name, each in measures.items()}}
    if found is None or not math.isfinite(found.value):
        return Outcome(None, metrics=metrics)
    return Outcome(found.value, found.low, found.high, found.n, metrics)


def _of_script(job: JobFolder, spec: TuningSpec) -> Outcome:
    last: dict[str, float] = {}
    for each in Records(job.records).scalars(mode=SCRIPT):
        last[each.name] = each.value
    metrics: Any = {
        SCRIPT: {name: {"value": value, "low": None, "high": None, "n": None} for name, value in last.items()}
    }
    return Outcome(last.get(spec.objective), metrics=metrics)


def measure_of(found: Outcome) -> Measure | None:
    """The objective as a measure, where it has an interval."""
    if found.value is None or found.low is None or found.high is None:
        return None
    return Measure(value=found.value, low=found.low, high=found.high, n=found.n or 0)


class Course:
    """The recorded series of a running job, read piece by piece as it grows."""

    def __init__(self, records: Path, name: str, mode: str) -> None:
        self._path = records / EVENTS
        self._mark = f'{{"scalar": {json.dumps(name)}, "mode": {json.dumps(mode)}'.encode()
        self._position = 0
        self._values: dict[int, float] = {}

    def read(self) -> list[float]:
        """Every value so far, by step; a step that was recorded twice counts once, with its newest value."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._position)
                new = file.read()
        except FileNotFoundError:
            new = b""
        whole = new[: new.rfind(b"\n") + 1]
        self._position += len(whole)
        for line in whole.splitlines() if self._mark in whole else ():
            if line.startswith(self._mark):
                found = json.loads(line)
                self._values[int(found["step"])] = float(found["value"])
        return [self._values[step] for step in sorted(self._values)]


def hits(job: JobFolder) -> NDArray[np.bool_] | None:
    """Which validation images the trial's model has right, (N,); None where its outputs were not kept."""
    path = job.evaluation / "valid.npz"
    if not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as kept:
        right: NDArray[np.bool_] = kept["logits"].argmax(axis=1) == kept["labels"]
    return right


def refuse(problem: str) -> SpecError:
    """The error for one thing that is wrong with a tuning."""
    return SpecError(f"One setting is wrong: {problem.rstrip('.')}.")
