"""Tune: from a job and a space to a running search; `open_tuning` looks at one that is there."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from houndsight.backends.local import LocalBackend
from houndsight.contract.source import copy_source
from houndsight.data import folder, sources
from houndsight.errors import SpecError, WorkspaceError
from houndsight.folders import TuningFolder
from houndsight.spec import FINAL_STATES, ClassifierSpec, Index, ScriptSpec
from houndsight.tuning import checks, trials
from houndsight.tuning.controlled import Controlled
from houndsight.tuning.objective import full_name, usual_goal
from houndsight.tuning.presets import PRESETS, SETTINGS
from houndsight.tuning.space import Space
from houndsight.tuning.spec import TuningSpec
from houndsight.tuning.written import Given, raise_all, read_file, read_space
from houndsight.verbs.job import backend_named
from houndsight.verbs.run import script_spec
from houndsight.verbs.train import _with_absolute_paths
from houndsight.verbs.tuning_job import COMMAND, TuningJob, earlier
from houndsight.workspace import Progress, Workspace, asked, new_name, remove_tree, write_json

SEARCH = frozenset(set(TuningSpec.model_fields) - {"kind", "job", "space", "source", "earlier", "pattern", "backend"})
"""Settings of the search itself; all others are the job's."""


def tune(
    what: str | Path,
    space: Given | str | Path | None = None,
    *,
    preset: str | None = None,
    objective: str | None = None,
    start_from: str | None = None,
    name: str | None = None,
    workspace: str | Path | None = None,
    backend: Literal["local", "inline"] = "local",
    wait: bool = True,
    progress: Progress | None = None,
    channels: Mapping[str, str | Path] | str | Path | None = None,
    hyperparameters: Mapping[str, Any] | None = None,
    metrics: Mapping[str, str] | None = None,
    source_dir: str | Path | None = None,
    environment: Mapping[str, str] | None = None,
    **settings: Any,
) -> TuningJob:
    """Search hyperparameters of a classifier on a folder of images, or of a training script, and return the tuning.

    `space` is a dictionary, `name=range` strings, or a JSON or TOML file. `settings` are those of the search
    (`TuningSpec`: strategy, jobs, parallel, minutes, ...) and those of every trial (`ClassifierSpec`). `objective` of a
    script is `name=regex`. All problems are raised at once before anything is made. With `wait` a failed search raises
    its error.
    """
    place, script = Workspace.find(workspace), _is_script(what, source_dir)
    search = {key: settings.pop(key) for key in list(settings) if key in SEARCH and key != "seed"}
    if "seed" in settings:  # of the search, and of every trial of a classifier
        search["seed"] = settings.pop("seed") if script else settings["seed"]
    given, settings = _space(space, preset, settings)
    problems: list[str] = []
    pattern = None
    if script:
        objective, pattern = _script_objective(objective, metrics or {})
        settings |= {"source_dir": source_dir, "channels": channels, "hyperparameters": hyperparameters}
        settings |= {"cache": place.cache}
        settings |= {
            "environment": environment,
            "metrics": {**(metrics or {}), **({objective: pattern} if pattern else {})},
        }
    objective = objective if script else full_name(objective or "accuracy")
    job = _job(what, script, settings, problems)
    spec = _spec(job, given, str(objective), pattern, {"backend": backend, **search}, problems)
    index = None
    if isinstance(job, ClassifierSpec):
        index = folder.scan(sources.local(job.data, place.cache, progress), split_seed=job.split_seed)
    name = name or new_name([*place.names(), *place.tuning_names(), *place.endpoint_names()])
    trials.refuse_taken(place, name, spec.jobs)
    if start_from is not None:
        spec = earlier(spec, place, start_from, index)
    found = _started(place.create_tuning(spec, name), spec, job, index)
    return _waited(found) if wait else found


def _job(
    what: str | Path, script: bool, settings: dict[str, Any], problems: list[str]
) -> ClassifierSpec | ScriptSpec | None:
    """What every trial is made from; None, and its problems noted, where it cannot be."""
    made: ClassifierSpec | ScriptSpec | None = None
    with _noting(problems):
        if script:
            made = script_spec(what, **settings)
        else:
            made = _with_absolute_paths(ClassifierSpec.create(data=str(what), **settings))
    return made


def _started(
    files: TuningFolder, spec: TuningSpec, job: ClassifierSpec | ScriptSpec | None, index: Index | None
) -> TuningJob:
    """Put into the tuning's folder what its trials are made from, and start it; nothing stays where that fails."""
    try:
        if index is not None:
            write_json(files.index, index)
        if isinstance(job, ScriptSpec):
            copy_source(job, Controlled(files.path))  # now: the script may be changed while trials run
            kept = job.model_copy(update={"source_dir": str(files.code), "alone": False})
            write_json(files.spec, spec.model_copy(update={"job": asked(kept)}))
        return _submit(files, spec.backend)
    except BaseException:
        remove_tree(files.path)
        raise


def resume_tuning(tuning: str, *, workspace: str | Path | None = None, wait: bool = True) -> TuningJob:
    """Go on with a tuning that was stopped or died: completed trials stay, none runs again."""
    found = open_tuning(tuning, workspace=workspace)
    state = found.state
    if state == "COMPLETED":
        raise WorkspaceError(f"The tuning '{tuning}' is complete.", f"Type `houndsight report {tuning}` to see it.")
    if state not in FINAL_STATES and found.status.pid is not None:
        raise WorkspaceError(f"The tuning '{tuning}' is {state}.", f"Type `houndsight stop {tuning}` to stop it.")
    found = _submit(found.files, TuningSpec.read(found.files.spec).backend)
    return _waited(found) if wait else found


def open_tuning(name: str, *, workspace: str | Path | None = None) -> TuningJob:
    """The tuning of that name; raises `WorkspaceError` with the nearest names where there is none."""
    place = Workspace.find(workspace)
    return TuningJob(place.tuning(name), place)


def tunings(*, workspace: str | Path | None = None) -> list[TuningJob]:
    """All tunings of the workspace, oldest first."""
    place = Workspace.find(workspace)
    return [TuningJob(place.tuning(name), place) for name in place.tuning_names()]


def _submit(files: TuningFolder, backend: str) -> TuningJob:
    place = Workspace(files.path.parent.parent)
    if backend == "inline":
        from houndsight.backends.inline import InlineBackend
        from houndsight.controller import run_tuning

        inner = backend_named("inline")
        InlineBackend(lambda job, stop: run_tuning(job, stop, inner)).submit(Controlled(files.path))
    else:
        LocalBackend(COMMAND).submit(Controlled(files.path))
    return TuningJob(files, place)


def _waited(found: TuningJob) -> TuningJob:
    found.wait()
    error = found.error
    if error is not None:
        raise error
    return found


def _is_script(what: str | Path, source_dir: str | Path | None) -> bool:
    return source_dir is not None or (str(what).endswith((".py", ".sh")) and not Path(what).expanduser().is_dir())


def _space(
    space: Given | str | Path | None, preset: str | None, settings: dict[str, Any]
) -> tuple[Given, dict[str, Any]]:
    """The space as it was written, a preset's under what was given."""
    if preset is not None and preset not in PRESETS:
        raise SpecError(f"There is no preset '{preset}'.", f"There are {', '.join(PRESETS)}.")
    given = read_file(space) if isinstance(space, str | Path) else space or {}
    if preset is None:
        return given, settings
    own = dict(PRESETS[preset])
    added = given if isinstance(given, Mapping) else dict(each.partition("=")[::2] for each in given)
    return {**own, **added}, {**SETTINGS.get(preset, {}), **settings}


def _script_objective(objective: str | None, metrics: Mapping[str, str]) -> tuple[str, str | None]:
    if objective is None:
        if len(metrics) == 1:
            return next(iter(metrics)), None
        raise SpecError(
            "A script's objective has to be said.", "Type --objective 'NAME=REGEX', one group around the number."
        )
    if objective in metrics:
        return objective, None
    name, sign, pattern = objective.partition("=")
    return (name, pattern) if sign else (objective, None)


@contextmanager
def _noting(problems: list[str]) -> Iterator[None]:
    """Add the problems of a spec to the list instead of raising them one spec at a time."""
    try:
        yield
    except SpecError as error:
        problems += (error.message.partition("wrong: ")[2] or error.message).split("; ")


def _spec(
    job: ClassifierSpec | ScriptSpec | None,
    given: Given,
    objective: str,
    pattern: str | None,
    search: dict[str, Any],
    problems: list[str],
) -> TuningSpec:
    """The tuning as data; raises `SpecError` with every problem, those of its job included."""
    if not given:
        raise SpecError("There is nothing to search.", "Give --param, such as --param lr=log:1e-4..1e-1, or --preset.")
    space: Space = {}
    with _noting(problems):
        space = read_space(given)
    script = pattern is not None or isinstance(job, ScriptSpec)
    own: dict[str, Any] = {"goal": usual_goal(objective), "default_first": not script}
    if script:
        own["reseed"] = 0  # a script has no seed that we know of
    if job is not None:
        own["parallel"] = trials.usual_parallel(job, space)
    spec: TuningSpec | None = None
    with _noting(problems):
        spec = TuningSpec.create(
            job=asked(job) if job is not None else {"kind": "script" if script else "classifier"},
            space=space if script else checks.fitting(space),
            objective=objective,
            pattern=pattern,
            **{**own, **search},
        )
    if spec is not None and job is not None:
        problems += checks.problems(spec)
    raise_all(problems)
    assert spec is not None
    return spec
