"""What is remarkable about a search: values that did not arrive, numbers that cannot be, ranges that were too narrow.

Sampled values are read back from what the trials recorded of their optimizer and loader; nothing is taken on trust.
"""

import itertools
import json
import math
from collections import Counter
from typing import Any

from houndsight.folders import JobFolder
from houndsight.records.facts import read_facts
from houndsight.spec import Finding
from houndsight.tuning import leaderboard, trials
from houndsight.tuning.events import State, Trial
from houndsight.tuning.leaderboard import Row
from houndsight.tuning.objective import Course, curve_of
from houndsight.tuning.space import AnyParameter, Categorical, Continuous, Integer
from houndsight.tuning.spec import TuningSpec
from houndsight.workspace import Workspace

EDGE = 0.05
"""Share of a range at whose ends the best value counts as lying on the edge."""
CLOSE = 1e-3
"""Relative difference up to which a rate counts as the one that was asked for."""


def findings(spec: TuningSpec, state: State, place: Workspace, rows: list[Row]) -> list[Finding]:
    """Everything that is worth saying, errors first."""
    completed = [each for each in state.searched if each.state == "COMPLETED" and each.value is not None]
    found = [
        *_not_used(spec, completed, place),
        *_identical(spec, completed, place),
        *_numbers(spec, completed),
        *_names(spec),
        *_failed(state),
        *_edges(spec, rows),
        *_chance(state, rows),
    ]
    rank = {"error": 0, "warning": 1, "info": 2}
    return sorted(found, key=lambda each: rank[each.severity])


def _finding(rule: str, severity: Any, message: str, repair: str = "", **evidence: Any) -> Finding:
    return Finding(source="tuning", rule=rule, severity=severity, message=message, repair=repair, evidence=evidence)


# ------------------------------------------------------------------------------------- did the values arrive


def _not_used(spec: TuningSpec, completed: list[Trial], place: Workspace) -> list[Finding]:
    wrong: dict[str, list[str]] = {}
    for trial in completed:
        job = trials.job_of(place, trial)
        seen = _of_script(job) if spec.is_script else _of_classifier(job)
        for name, value in trial.hyperparameters.items():
            if name in seen and not _alike(seen[name], value):
                wrong.setdefault(name, []).append(f"trial {trial.number} asked for {value} and used {seen[name]}")
    return [
        _finding(
            "value_not_used", "error", f"{name} did not arrive: {cases[0]}.",
            "Do not trust what this search says about it.", name=name, trials=cases,
        )
        for name, cases in wrong.items()
    ]  # fmt: skip


def _of_classifier(job: JobFolder) -> dict[str, Any]:
    """What the optimizer and the loader had, as far as it was recorded; the highest learning rate is the peak."""
    plan = json.loads(job.plan.read_bytes())
    seen = {name: value for name, value in plan.items() if value is not None}
    facts = read_facts(job.records)
    seen |= {name: facts[name] for name in ("batch_size", "optimizer", "weight_decay", "momentum") if name in facts}
    rates = Course(job.records, "lr", "train").read()
    if len(rates) > 1:
        seen["lr"] = max(rates)
    epochs = Course(job.records, "accuracy", "valid").read()
    if epochs and not plan.get("early_stopping") and plan.get("epochs") and not plan.get("steps"):
        seen["epochs"] = len(epochs)
    return seen


def _of_script(job: JobFolder) -> dict[str, Any]:
    """The arguments that the script was started with."""
    try:
        words = json.loads(job.script.read_bytes())["command"]
    except (OSError, ValueError, KeyError):
        return {}
    return {one[2:]: other for one, other in itertools.pairwise(words) if one.startswith("--")}


def _alike(seen: Any, value: Any) -> bool:
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return math.isclose(float(seen), float(value), rel_tol=CLOSE)
        except (TypeError, ValueError):
            return False
    plain = list(seen) if isinstance(seen, tuple) else seen
    return bool(plain == value) or str(plain) == str(value) or isinstance(value, bool | list | dict)


def _identical(spec: TuningSpec, completed: list[Trial], place: Workspace) -> list[Finding]:
    """Trials that were asked for different things and went alike to the last digit."""
    courses: dict[tuple[float, ...], list[Trial]] = {}
    for trial in completed:
        course = Course(trials.job_of(place, trial).records, *curve_of(spec)).read()
        loss = trial.metrics.get("valid", {}).get("loss_uncalibrated", {}).get("value", trial.value)
        courses.setdefault((*course, float(loss)), []).append(trial)
    found = []
    for alike in courses.values():
        different = [each for each in alike if each.hyperparameters != alike[0].hyperparameters]
        if different and alike[0].role != "default":
            names = sorted({name for each in different for name in _differing(alike[0], each)})
            numbers = ", ".join(str(each.number) for each in alike)
            found.append(_finding(
                "identical_trials", "warning",
                f"Trials {numbers} came to exactly the same, though they differ in {', '.join(names)}.",
                "Look whether these settings reach the training at all.",
                trials=[each.number for each in alike], names=names,
            ))  # fmt: skip
    return found


def _differing(one: Trial, other: Trial) -> list[str]:
    names = {*one.hyperparameters, *other.hyperparameters}
    return [name for name in names if one.hyperparameters.get(name) != other.hyperparameters.get(name)]


# ------------------------------------------------------------------------------------- can the numbers be


def _numbers(spec: TuningSpec, completed: list[Trial]) -> list[Finding]:
    """Numbers that say nothing, or cannot be what their name says: the objective, and what else a script prints."""
    points = len({json.dumps(each.hyperparameters, sort_keys=True) for each in completed})
    found = _of_series(spec.objective, [float(each.value or 0.0) for each in completed], points, spec.is_script, True)
    printed = [each.metrics.get("script", {}) for each in completed]
    for name in sorted(set.intersection(*map(set, printed)) - {spec.objective}) if printed else ():
        found += _of_series(name, [float(each[name]["value"]) for each in printed], points, spec.is_script, False)
    return found


def _of_series(name: str, values: list[float], points: int, script: bool, chosen: bool) -> list[Finding]:
    """What is odd about one number of each trial, tried at so many points; `chosen`: trials are compared by it."""
    said, word, found = f"'{name}'", name.casefold(), []
    severity = "error" if chosen else "warning"
    if len(values) >= 3 and points >= 3 and len(set(values)) == 1:
        found.append(_finding(
            "constant_objective" if chosen else "constant_metric", severity,
            f"{said} is {values[0]:g} in all {len(values)} trials.",
            "Look at how it is computed, and whether the settings reach the training.", metric=name, value=values[0],
        ))  # fmt: skip
    elif len(values) >= 2 and script and all(each == int(each) for each in values if math.isfinite(each)):
        found.append(_finding(
            "whole_numbers", "warning", f"{said} is a whole number in all {len(values)} trials.",
            "A // or a rounding may have cut it; print it with four digits.", metric=name, values=values[:10],
        ))  # fmt: skip
    lowest, highest = (min(values), max(values)) if values else (0.0, 0.0)
    if "loss" in word and lowest < 0:
        found.append(_finding(
            "negative_loss", severity, f"{said} is negative ({lowest:g}), which no cross-entropy can be.",
            "Give nll_loss log-probabilities (log_softmax), or take cross_entropy.", metric=name, lowest=lowest,
        ))  # fmt: skip
    if "acc" in word and highest > 100:
        found.append(_finding(
            "impossible_accuracy", severity, f"{said} is {highest:g}, more than 100 %.",
            "It is probably divided by the number of batches instead of the number of images.",
            metric=name, highest=highest,
        ))  # fmt: skip
    return found


def _names(spec: TuningSpec) -> list[Finding]:
    if spec.is_script and "test" in spec.objective.casefold():
        return [_finding(
            "selected_on_test", "warning",
            f"By its name the objective '{spec.objective}' is measured on test data: what is chosen by it looks better "
            "than it is.", "Let the script measure on a validation split, and the test split once at the end.",
        )]  # fmt: skip
    return []


def _failed(state: State) -> list[Finding]:
    failed = [each for each in state.searched if each.state == "FAILED"]
    if not failed:
        return []
    reason, times = Counter(each.reason for each in failed).most_common(1)[0]
    numbers = ", ".join(str(each.number) for each in failed[:10])
    return [_finding(
        "failed_trials", "warning",
        f"{len(failed)} of {len(state.searched)} trials failed ({numbers}), {times} with: {reason.rstrip('.')}.",
        f"`houndsight logs {failed[0].job}` shows the first.", trials=[each.number for each in failed],
    )]  # fmt: skip


# ------------------------------------------------------------------------------------- how far to believe it


def _edges(spec: TuningSpec, rows: list[Row]) -> list[Finding]:
    """Ranges on whose edge the best trial lies, with a wider one."""
    best = next((row.trial for row in rows if row.trial.role == "search"), None)
    if best is None or rows[0].trial is not best or len(rows) < 4:
        return []
    found = []
    for name, value in best.hyperparameters.items():
        parameter = spec.space.get(name)
        side = _edge(parameter, value) if parameter is not None else ""
        if parameter is not None and side:
            found.append(_finding(
                "range_edge", "warning", f"The best {name} ({value}) lies at the {side} end of its range.",
                f"Search on with --from and --param '{name}={_wider(parameter, side)}'.",
                name=name, value=value, end=side,
            ))  # fmt: skip
    return found


def _edge(parameter: AnyParameter, value: Any) -> str:
    """`lower` or `upper` where the value lies there; empty elsewhere, and where there is no order."""
    if isinstance(parameter, Categorical):
        if not parameter.ordered or len(parameter.choices) < 3:
            return ""
    elif isinstance(parameter, Integer) and parameter.high - parameter.low < 2:
        return ""
    share = parameter.share(value)
    edge = EDGE if isinstance(parameter, Continuous) else 1e-9
    return "lower" if share <= edge else "upper" if share >= 1 - edge else ""


def _wider(parameter: AnyParameter, side: str) -> str:
    if isinstance(parameter, Categorical):
        step = 2 if all(isinstance(each, int) for each in parameter.choices) else 10
        first, last = parameter.choices[0], parameter.choices[-1]
        more = (*parameter.choices, last * step) if side == "upper" else (first / step, *parameter.choices)
        return ",".join(f"{each:g}" for each in more)
    low, high = float(parameter.low), float(parameter.high)
    if parameter.scale == "log":
        low, high = (low / 10, high) if side == "lower" else (low, high * 10)
    elif parameter.scale == "revlog":
        low, high = (1 - 10 * (1 - low), high) if side == "lower" else (low, 1 - (1 - high) / 10)
    else:
        low, high = (low - (high - low) / 2, high) if side == "lower" else (low, high + (high - low) / 2)
    kind = "int:" if isinstance(parameter, Integer) else ""
    scale = f"{parameter.scale}:" if parameter.scale != "linear" else ""
    ends = (round(low), round(high)) if kind else (low, high)
    return f"{kind}{scale}{max(ends[0], 0):g}..{ends[1]:g}"


def _chance(state: State, rows: list[Row]) -> list[Finding]:
    """How many trials chance does not tell apart, and what the winner came to with other seeds."""
    found = []
    tied = [row for row in rows if row.tied]
    if len(tied) > 1:
        found.append(_finding(
            "tied_trials", "info",
            f"{len(tied)} of {len(rows)} trials are statistically tied with the best: the validation images do not "
            "tell them apart.", "Choose among them by cost, or validate on more images.",
            trials=[row.trial.number for row in tied],
        ))  # fmt: skip
    for row in rows:
        values = leaderboard.values_of(state, row.trial)
        if row.place == 1 and len(values) > 1:
            again = leaderboard.mean(values[1:])
            found.append(_finding(
                "winners_curse", "info",
                f"The best trial ({values[0]:.6g}) came to {again:.6g} with another seed; expect the latter: the best "
                f"of {len(rows)} is also the luckiest.", trial=row.trial.number, values=values,
            ))  # fmt: skip
    return found
