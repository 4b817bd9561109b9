"""A trial on its way to being a job: its spec from the tuning's and what was chosen, its folder, what it used."""

import contextlib
import json
import os
import shutil
from typing import Any

from houndsight.errors import WorkspaceError
from houndsight.folders import JobFolder, TuningFolder
from houndsight.spec import ClassifierSpec, JobSpec, ScriptSpec
from houndsight.tuning.events import Trial
from houndsight.tuning.objective import METRICS
from houndsight.tuning.space import Categorical, Space, Values
from houndsight.tuning.spec import TuningSpec
from houndsight.workspace import Workspace, atomic_write, remove_tree

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""Variables by which a script's libraries are told how many processors they have."""


OBJECTIVE = "_tuning_objective_metric"
"""Hyperparameter in which SageMaker's tuner names the objective; it stands in the configuration, no script gets it."""
MOST_AT_ONCE = 8
"""Trials at the same time where nobody says otherwise."""


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def share_of_cores(parallel: int) -> int | None:
    """Processors for each of so many trials; None where one trial has them all."""
    return max(1, cores() // parallel) if parallel > 1 else None


def usual_parallel(job: JobSpec, space: Space) -> int:
    """How many trials at once where nobody says: as many as processors for heads on cached features, else one."""
    heavy = {"freeze", "augment", "recipe", "backbone", "image_size"} & set(space)
    if isinstance(job, ScriptSpec) or heavy or job.freeze != "all" or job.augment != "none" or job.recipe == "lp-ft":
        return 1
    return min(cores(), MOST_AT_ONCE)


def spec_of(spec: TuningSpec, values: Values, seed: int | None, threads: int | None) -> JobSpec:
    """The spec of a job that tries `values`; raises `SpecError` where they cannot be honoured together."""
    if spec.is_script:
        return _script(spec, values, threads)
    changes: dict[str, Any] = {"evaluate_test": False, "monitor": monitor(spec), **values}
    if seed is not None:
        changes["seed"] = seed
    if threads is not None:
        changes |= {name: threads for name in ("threads", "workers") if name not in spec.job}
    if "monitor" in spec.job:
        changes.pop("monitor")
    return spec.job_spec(**changes)


def _script(spec: TuningSpec, values: Values, threads: int | None) -> ScriptSpec:
    given = spec.job
    metrics = dict(given.get("metrics", {}))
    if spec.pattern is not None:
        metrics[spec.objective] = spec.pattern
    environment = dict(given.get("environment", {}))
    if threads is not None:
        environment = {**dict.fromkeys(THREADS, str(threads)), **environment}
    sent = {
        name: _as_sent(value) if isinstance(spec.space[name], Categorical) else value for name, value in values.items()
    }
    found = spec.job_spec(
        hyperparameters={**given.get("hyperparameters", {}), **sent, OBJECTIVE: spec.objective},
        metrics=metrics,
        environment=environment,
    )
    assert isinstance(found, ScriptSpec)
    return found


def _as_sent(choice: Any) -> str:
    """One of several values as SageMaker's tuner sends it: `CategoricalParameter` makes a string of each."""
    return choice if isinstance(choice, str) else str(choice)


def monitor(spec: TuningSpec) -> str:
    """The validation value by which a trial keeps its best weights, as the objective has it."""
    metric = METRICS[spec.objective.partition(":")[2]]
    return "loss" if metric in ("loss", "loss_uncalibrated", "ece") else "accuracy"


def job_of(place: Workspace, trial: Trial) -> JobFolder:
    """The folder of the trial's job, whether it is there or not."""
    return JobFolder(place.jobs / trial.job)


def make_job(place: Workspace, tuning: TuningFolder, trial: Trial, spec: JobSpec) -> JobFolder:
    """Make the job's folder, or what of it a killed controller had not made yet."""
    job = job_of(place, trial)
    if not job.spec.is_file():
        with contextlib.suppress(FileExistsError):
            place.create(spec, trial.job)
    if isinstance(spec, ScriptSpec):
        if not job.code.is_dir():
            staged = job.path / ".code"
            remove_tree(staged)
            shutil.copytree(tuning.code, staged, symlinks=True)
            staged.rename(job.code)
    elif not job.index.is_file():
        with atomic_write(job.index) as file:
            file.write(tuning.index.read_bytes())
    return job


def used(job: JobFolder, spec: TuningSpec) -> Values:
    """The values of the searched names as the job came to use them; empty where it did not come so far."""
    path = job.spec if spec.is_script else job.plan
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    settings = found.get("hyperparameters", {}) if spec.is_script else found
    for name, parameter in spec.space.items() if spec.is_script else ():
        if isinstance(parameter, Categorical) and name in settings:
            sent = {_as_sent(each): each for each in parameter.choices}
            settings[name] = sent.get(settings[name], settings[name])
    return {name: settings[name] for name in spec.space if settings.get(name) is not None}


def seedless(job: JobFolder, spec: TuningSpec) -> bool:
    """Whether a completed job fitted its head in closed form, so that another seed would give the same."""
    return not spec.is_script and bool(json.loads(job.plan.read_bytes()).get("optimizer") == "lbfgs")


def fixed_values(spec: TuningSpec) -> Values:
    """What the job has of its own, by which conditions of the space are judged."""
    if spec.is_script:
        return dict(spec.job.get("hyperparameters", {}))
    defaults = {name: field.default for name, field in ClassifierSpec.model_fields.items() if not field.is_required()}
    return {**defaults, **spec.job}


def refuse_taken(place: Workspace, name: str, jobs: int) -> None:
    """Raise `WorkspaceError` where the names of the trials are too long or already jobs."""
    last = job_name(name, jobs + 99)
    if len(last) > 63:
        raise WorkspaceError(f"'{name}' is too long for a tuning: its trials are named {last}.", "Shorten --name.")
    for taken in place.names():
        if taken.startswith(f"{name}-") and taken[len(name) + 1 :].isdigit():
            raise WorkspaceError(
                f"There is a job '{taken}' already, as a trial of '{name}' would be named.", "Choose another --name."
            )


def job_name(tuning: str, number: int) -> str:
    """Name of the job of a trial."""
    return f"{tuning}-{number:03d}"
