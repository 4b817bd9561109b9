"""From a foreign model and a SageMaker script to a folder that an endpoint can take; before anything is started."""

import json
import logging
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from houndsight.backends import packages, private
from houndsight.contract import look_job
from houndsight.contract.command import not_installed
from houndsight.contract.look import sentences
from houndsight.contract.named import mentions, refusal
from houndsight.contract.source import source_files
from houndsight.errors import DependencyError, ModelError, SpecError
from houndsight.folders import JobFolder
from houndsight.serving import modeldir
from houndsight.serving.modeldir import HandlerModel
from houndsight.spec import ScriptSpec
from houndsight.verbs.fetched import code, server
from houndsight.workspace import NAME, Workspace, remove_tree

log = logging.getLogger("houndsight")


@dataclass(frozen=True)
class Script:
    """Which SageMaker script answers for a model, and what the user vouches for."""

    entry_point: str | None = None
    """The script, such as inference.py; by default the one in the model's `code/`, or that of a script job."""
    source_dir: str | Path | None = None
    """Folder of the script and of what it imports, or a sourcedir.tar.gz; without it the script comes alone."""
    trust_code: bool = False
    """Run the code that a model archive brings."""
    allow_requirements: bool = False
    """Install what `code/requirements.txt` asks for and is not there."""
    trust_pickle: bool = False
    """Let `torch.load` run what the model's files hold: whole modules are pickles, which are programs."""
    s3_endpoint: str | None = None
    """S3 server that the script reads."""


@dataclass(frozen=True)
class Found:
    """The script as a file, and whether the rest of its folder comes along."""

    root: Path
    program: str
    alone: bool

    def files(self) -> dict[str, Path]:
        """Name within `code/` -> file."""
        if self.alone:
            return {self.program: self.root / self.program}
        found = source_files(self.root, frozenset())
        return {each.relative_to(self.root).as_posix(): each for each in found if each.is_file()}


@contextmanager
def staged(model: str | Path, path: Path, script: Script, workspace: str | Path | None) -> Iterator[Path | None]:
    """The folder of handlers that an endpoint takes for the model at `path`, named as `model`; gone after the block.

    None for an artifact of Houndsight, unless an entry point is named for it: that is served as it is. Raises
    `SpecError` for code that was not trusted, `DependencyError` for packages that are missing, `ModelError` for a
    broken archive.
    """
    place = Workspace.find(workspace)
    job = job_named(model, place)
    found = find_script(script, job, place.cache)
    if found is None and (path / modeldir.CARD).is_file() and modeldir.is_ours(path):
        yield None
        return
    if found is not None:
        trained = job if job is not None and _is_script(job) else None
        for each in sentences(look_job.of_answers(trained, found.root / found.program)):
            log.warning("%s", each)
    folder = place.cache / "handlers" / secrets.token_hex(8)
    try:
        modeldir.fill(path, folder / "model")
        if found is None and modeldir.is_ours(folder / "model"):
            yield None
            return
        program = _program(folder / "model", found, path, script.trust_code)
        python = _python(folder / "model" / "code", script.allow_requirements, place)
        own = HandlerModel(
            source=str(model),
            program=program,
            python=python,
            variables=server(script.s3_endpoint),
            private=_private(folder / "model" / "code"),
            trust_pickle=script.trust_pickle,
        )
        modeldir.write(folder, own)
        yield folder
    finally:
        remove_tree(folder)


def job_named(model: str | Path, place: Workspace) -> JobFolder | None:
    """The job that `model` names, or None where it names something else."""
    text = str(model)
    if NAME.fullmatch(text) and (place.jobs / text / "spec.json").is_file():
        return place.job(text)
    return JobFolder(Path(model)) if (Path(model) / "spec.json").is_file() else None


def find_script(script: Script, job: JobFolder | None, cache: Path) -> Found | None:
    """The script that was named, else that of a script job, as SageMaker's `estimator.deploy()` takes it."""
    entry_point, source_dir = script.entry_point, script.source_dir
    own = job if job is not None and job.code.is_dir() and _is_script(job) else None
    if entry_point is None:
        if source_dir is not None:
            raise SpecError("A source folder was given without its script.", "Add --entry-point inference.py.")
        program = ScriptSpec.read(own.spec).entry_point if own is not None else ""
        return Found(own.code, program, alone=False) if own is not None and program.endswith(".py") else None
    if not entry_point.endswith(".py"):
        raise SpecError(f"The entry point '{entry_point}' is no Python file.", "Give a script such as inference.py.")
    if source_dir is not None:
        root = code(str(source_dir), cache)
        if not (root / entry_point).is_file():
            raise SpecError(f"There is no {entry_point} in {root}.", "The entry point lies in the source folder.")
        return _at_top(Found(root, entry_point, alone=False))
    file = Path(entry_point).expanduser().absolute()
    if file.is_file():
        return Found(file.parent, file.name, alone=True)
    if own is not None and (own.code / entry_point).is_file():
        return _at_top(Found(own.code, entry_point, alone=False))
    raise SpecError(f"There is no script {entry_point}.", "Give its path, or its folder with --source-dir.")


def _is_script(job: JobFolder) -> bool:
    return bool(json.loads(job.spec.read_bytes()).get("kind") == "script")


def _at_top(script: Found) -> Found:
    """Amazon's container imports the script by its name, so it has to lie at the top of its folder."""
    if Path(script.program).name != script.program:
        raise SpecError(
            f"The entry point '{script.program}' lies in a folder of the source folder.",
            f"Give --source-dir {script.root / Path(script.program).parent} --entry-point {Path(script.program).name}.",
        )
    return script


def _program(model: Path, script: Found | None, path: Path, trusted: bool) -> str:
    """Name of the script in `code/`, put there where one was named; raises `SpecError` where nobody vouches for it."""
    if script is not None:
        modeldir.add_code(model, script.files(), alone=script.alone)
        return script.program
    found, weights = modeldir.scripts(model), modeldir.torchscripts(model)
    if not found and not weights:
        raise ModelError(
            f"{path} is no model: it has neither model.json nor code/inference.py nor a .pth or .pt file.",
            "Give a job's name, an artifact folder or a model.tar.gz.",
        )
    if not trusted:
        if found:
            raise SpecError(
                f"{path} brings its own program (code/{found[0]}), which would run with all your rights.",
                "Read it, then add --trust-code, or name a script of your own with --entry-point.",
            )
        raise SpecError(
            f"{path} brings no script; {weights[0]} would be loaded as TorchScript, a program with all your rights.",
            "Name a script with --entry-point; or, where it is TorchScript of somebody you trust, add --trust-code.",
        )
    if found and modeldir.PROGRAM not in found:
        if len(found) > 1:
            raise SpecError(
                f"{path} has no code/{modeldir.PROGRAM}, but {', '.join(found)}.",
                "Name a script of your own with --entry-point.",
            )
        return found[0]
    return modeldir.PROGRAM


def _private(folder: Path) -> bool:
    """Whether the script names /opt/ml itself; raises `SpecError` where that cannot be given to it here."""
    found = mentions(folder, source_files(folder, frozenset()))
    if found and (why := private.impossible()):
        raise SpecError(*refusal(found, why))
    return bool(found)


def _python(folder: Path, allowed: bool, place: Workspace) -> str | None:
    """The interpreter that has the packages of `code/requirements.txt`; None where this one has them."""
    missing = not_installed(folder)
    if not missing:
        return None
    if not allowed:
        raise DependencyError(
            f"code/requirements.txt asks for {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not "
            "installed here; nothing is installed without your leave.",
            "Add --allow-requirements, or install it yourself.",
        )
    return str(packages.interpreter(folder / "requirements.txt", place.cache))
