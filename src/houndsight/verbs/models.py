"""Finding the model that a verb was given: a job's name, a folder, or a `model.tar.gz`."""

from pathlib import Path

from houndsight.errors import ModelError, WorkspaceError
from houndsight.folders import JobFolder
from houndsight.workspace import NAME, Workspace


def find_model(model: str | Path, workspace: str | Path | None = None) -> Path:
    """Path of the artifact (a folder or an archive) that `model` names.

    A job's name comes before a file of the same name. Raises `ModelError` for a job without a model yet and for a
    path that is not there, `WorkspaceError` for a name that no job has.
    """
    text = str(model)
    place = Workspace.find(workspace)
    if NAME.fullmatch(text) and (place.jobs / text / "spec.json").is_file():
        return _of_job(place.job(text))
    path = Path(model).expanduser()
    if (path / "spec.json").is_file():
        return _of_job(JobFolder(path))
    if path.exists():
        return path
    if NAME.fullmatch(text):
        try:
            place.job(text)
        except WorkspaceError as error:
            raise WorkspaceError(
                f"'{text}' is neither a job in {place.path} nor a folder or model.tar.gz.", error.repair
            ) from None
    raise ModelError(f"There is no model at {path}.", "Give a job's name, a folder, or a model.tar.gz.")


def _of_job(job: JobFolder) -> Path:
    if (job.model / "model.json").is_file():
        return job.model
    if job.model_archive.is_file():
        return job.model_archive
    raise ModelError(
        f"The job '{job.name}' has no model.", f"Type `houndsight logs {job.name}` to see how far it came."
    )
