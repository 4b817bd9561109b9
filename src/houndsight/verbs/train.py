"""Train and resume: from settings to a running job; the first verb most people type."""

from pathlib import Path
from typing import Any, Literal

from houndsight.data import folder, sources
from houndsight.errors import RequestError, WorkspaceError
from houndsight.records.rules import engine
from houndsight.spec import FINAL_STATES, ClassifierSpec
from houndsight.verbs.job import Job, backend_named, open_job, submit
from houndsight.workspace import Progress, Workspace, remove_tree, write_json


def train(
    data: str | Path,
    *,
    name: str | None = None,
    workspace: str | Path | None = None,
    backend: Literal["local", "inline"] = "local",
    wait: bool = True,
    cold: bool = False,
    progress: Progress | None = None,
    **settings: Any,
) -> Job:
    """Train a classifier on a folder of images and return its job.

    `settings` are the fields of `ClassifierSpec`. Everything that can be known to be wrong is raised before a
    job is made: `SpecError` for settings, all at once, `DataError` for the data, `WorkspaceError` for the name.
    With `wait` a failed job raises its error; a job refused by the worker leaves no folder behind. `cold` starts it
    without a warm process.
    """
    spec = ClassifierSpec.create(data=str(data), **settings)
    engine.check(spec.rules, spec.on_finding)
    runner = backend_named(backend, cold=cold)
    place = Workspace.find(workspace)
    index = folder.scan(sources.local(spec.data, place.cache, progress), split_seed=spec.split_seed)
    files = place.create(_with_absolute_paths(spec), name, backend)
    write_json(files.index, index)
    job = submit(files, runner)
    if wait:
        job.wait()
        raise_failure(job, fresh=True)
    return job


def resume(job: str, *, workspace: str | Path | None = None, wait: bool = True, cold: bool = False) -> Job:
    """Go on with a job that was stopped or died, from its last checkpoint."""
    found = open_job(job, workspace=workspace)
    state = found.state
    if state == "COMPLETED":
        raise WorkspaceError(f"The job '{job}' is complete.", f"Type `houndsight report {job}` to see it.")
    if state not in FINAL_STATES:
        raise WorkspaceError(f"The job '{job}' is {state}.", f"Type `houndsight logs {job} -f` to follow it.")
    submit(found.files, backend_named(found.status.backend, cold=cold))
    if wait:
        found.wait()
        raise_failure(found)
    return found


def raise_failure(job: Job, *, fresh: bool = False) -> None:
    """Raise what a failed job failed of; a fresh job that was refused is removed, so nothing half-written stays."""
    error = job.error
    if error is None:
        return
    if fresh and isinstance(error, RequestError):
        remove_tree(job.folder)
    raise error


def _with_absolute_paths(spec: ClassifierSpec) -> ClassifierSpec:
    """The same spec for a process that may start elsewhere, today or when the job is resumed."""
    changed = {"data": spec.data if "://" in spec.data else str(Path(spec.data).expanduser().absolute())}
    weights = Path(spec.weights).expanduser()
    if weights.is_file():
        changed["weights"] = str(weights.absolute())
    return spec.model_copy(update=changed)
