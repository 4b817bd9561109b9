"""Repack: a model and the script that answers for it as one model.tar.gz, as SageMaker's PyTorchModel packs it."""

import tempfile
from pathlib import Path

from houndsight.contract.pack import pack
from houndsight.errors import ModelError, SpecError, WorkspaceError
from houndsight.serving import modeldir
from houndsight.verbs.handlers import Script, find_script, job_named
from houndsight.verbs.models import find_model
from houndsight.workspace import Workspace, friendly_disk_errors


def repack(
    model: str | Path,
    entry_point: str | None = None,
    source_dir: str | Path | None = None,
    *,
    output: str | Path | None = None,
    workspace: str | Path | None = None,
) -> Path:
    """Write a model.tar.gz whose `code/` holds the script that answers, and return its path.

    The model's files stand at its top. The script comes alone beside what `code/` held, or `source_dir` comes in its
    place; of a script job without either, its own code. `output` is a file or a folder, by default
    `<model>-sagemaker/model.tar.gz` where the caller stands. Raises `SpecError` where no script is named or found.
    """
    place = Workspace.find(workspace)
    path = find_model(model, workspace)
    job = job_named(model, place)
    found = find_script(Script(entry_point, source_dir), job, place.cache)
    target = _target(output, path.name.split(".")[0] if job is None else job.name)
    with tempfile.TemporaryDirectory(prefix="houndsight-") as staged:
        folder = Path(staged) / "model"
        modeldir.fill(path, folder)
        if found is not None:
            modeldir.add_code(folder, found.files(), alone=found.alone)
        elif not modeldir.scripts(folder):
            raise SpecError(f"No script answers for {model}.", "Name one: --entry-point inference.py.")
        with friendly_disk_errors(target.parent):
            target.parent.mkdir(parents=True, exist_ok=True)
            if pack(folder, target) is None:
                raise ModelError(f"{model} holds no file.", "Give a job's name, a folder or a model.tar.gz.")
    return target


def _target(output: str | Path | None, name: str) -> Path:
    given = Path(output).expanduser() if output is not None else Path(f"{name}-sagemaker")
    file = given if given.name.endswith((".tar.gz", ".tgz")) else given / "model.tar.gz"
    if file.is_dir():
        raise WorkspaceError(f"{file} is a folder.", "Choose another --output.")
    return file
