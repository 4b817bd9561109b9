"""Who came first, and whom chance does not tell apart from it; from the events and the trials' own results."""

from dataclasses import dataclass
from typing import Any

from houndsight import metrics
from houndsight.folders import JobFolder
from houndsight.results import Evaluation
from houndsight.tuning import trials
from houndsight.tuning.events import State, Trial
from houndsight.tuning.objective import hits
from houndsight.tuning.spec import TuningSpec
from houndsight.workspace import Workspace

LEVEL = 0.05
"""A difference with a larger p-value counts as chance."""
COMPARED = 50
"""Most trials that are compared with the best, image by image."""


@dataclass(frozen=True)
class Row:
    """One completed trial on the leaderboard."""

    place: int
    """From 1."""
    trial: Trial
    """The trial."""
    tied: bool
    """Whether chance does not tell it apart from the first."""
    p_value: float | None
    """McNemar's test against the first on the same validation images; None where there are none to compare."""


def best_trial(spec: TuningSpec, state: State) -> Trial | None:
    """The completed trial of the search with the best objective; where it was trained again, with the best mean."""
    completed = [each for each in state.searched if each.state == "COMPLETED" and each.value is not None]
    if not completed:
        return None
    again = [each for each in completed if each.seedless or len(values_of(state, each)) > 1]
    again = again if any(not each.seedless for each in again) else []
    return max(again or completed, key=lambda each: (spec.sign() * mean(values_of(state, each)), -each.number))


def values_of(state: State, trial: Trial) -> list[float]:
    """The objective of the trial, and of those that repeated it with another seed."""
    same = [each for each in state.trials if each is trial or (each.role == "reseed" and each.of == trial.number)]
    return [each.value for each in same if each.state == "COMPLETED" and each.value is not None]


def mean(values: list[float]) -> float:
    """The mean."""
    return sum(values) / len(values)


def rank(spec: TuningSpec, state: State, place: Workspace) -> list[Row]:
    """Completed trials of the search, best first."""
    completed = [each for each in state.searched if each.state == "COMPLETED" and each.value is not None]
    completed.sort(key=lambda each: (-spec.sign() * float(each.value or 0.0), each.number))
    if not completed:
        return []
    first = completed[0]
    right = hits(trials.job_of(place, first)) if _by_images(spec) else None
    rows = [Row(1, first, True, None)]
    for at, trial in enumerate(completed[1:], start=2):
        p_value = None
        other = hits(trials.job_of(place, trial)) if right is not None and at <= COMPARED else None
        if right is not None and other is not None and len(other) == len(right):
            p_value = metrics.mcnemar(right, other).p_value
        tied = p_value > LEVEL if p_value is not None else _overlap(first, trial)
        rows.append(Row(at, trial, tied, p_value))
    return rows


def _by_images(spec: TuningSpec) -> bool:
    """Whether the objective counts images that are right, so that McNemar's test is of it."""
    return spec.objective in ("valid:accuracy", "valid:top1")


def _overlap(first: Trial, other: Trial) -> bool:
    """Whether either value lies within the other's interval; without intervals only equal values are tied."""
    if first.low is None or first.high is None or other.low is None or other.high is None:
        return first.value == other.value
    return first.low <= float(other.value or 0.0) <= first.high or other.low <= float(first.value or 0.0) <= other.high


def measured(job: JobFolder) -> dict[str, Any]:
    """Split -> metric -> value with its interval, as the job measured it."""
    found = {}
    for split in ("test", "valid"):
        path = job.evaluation / f"{split}.json"
        if path.is_file():
            found[split] = {name: each.model_dump() for name, each in Evaluation.read(path).metrics.items()}
    return found
