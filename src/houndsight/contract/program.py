"""What a script's process is: its words, the interpreter that has its packages, and the folders it finds at /opt/ml."""

import logging
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from houndsight.backends import packages, private
from houndsight.contract.command import command, not_installed
from houndsight.contract.named import mentions, refusal
from houndsight.contract.source import source_files
from houndsight.errors import JobError
from houndsight.folders import JobFolder
from houndsight.scripts.hub import TRUSTED
from houndsight.spec import ScriptSpec

log = logging.getLogger("houndsight")


@dataclass(frozen=True)
class Program:
    """How a script is started."""

    words: list[str]
    """The command, as it is shown."""
    before: list[str]
    """Words before it that give it an /opt/ml of its own; none where it needs none."""
    missing: list[str]
    """Packages that its requirements.txt names and that its interpreter lacks."""
    folder: Path | None
    """Folder of the interpreter's programs, where it is not this one's."""

    def variables(self, found: Mapping[str, str]) -> dict[str, str]:
        """The environment, with the interpreter's own programs before others, and its own /opt/ml trusted as it is."""
        found = dict(found)
        if self.before and TRUSTED in found:
            found[TRUSTED] += f"{os.pathsep}{private.PLACE}"
        if self.folder is None:
            return found
        return {**found, "PATH": os.pathsep.join([str(self.folder), *filter(None, [found.get("PATH")])])}


def program(job: JobFolder, spec: ScriptSpec, arguments: list[str]) -> Program:
    """Make ready what the script of a job needs; raises `DependencyError` and `JobError` where that cannot be had."""
    missing, python = not_installed(job.code), None
    package = any((job.code / each).is_file() for each in ("setup.py", "pyproject.toml"))
    if spec.allow_requirements and (missing or package):
        cache = job.path.parent.parent / "cache"
        python = packages.interpreter(job.code / "requirements.txt", cache, job.code if package else None)
        missing = []
    elif missing:
        log.warning("requirements.txt asks for what is not installed here: %s.", ", ".join(missing))
    words = command(job.code, spec.entry_point, arguments, str(python or sys.executable))
    return Program(words, _before(job, spec), missing, None if python is None else python.parent)


def _before(job: JobFolder, spec: ScriptSpec) -> list[str]:
    found = _wanted(spec, job.code, source_files(job.code, frozenset()))
    if found is None:
        return []
    if found:
        raise JobError(found)
    if private.hidden({job.name: str(job.path)}):
        raise JobError(f"{job.path} lies where the script's own /opt/ml is to stand.", "Choose another --workspace.")
    return private.prefix(job.path)


def _wanted(spec: ScriptSpec, root: Path, files: Iterable[Path]) -> str | None:
    """None where the script needs no /opt/ml of its own; else what stands against it, or nothing."""
    if spec.opt_ml == "never":
        return None
    variables = [f"SM_CHANNEL_{name.upper()}" for name in spec.channels]
    found = mentions(root, files, variables, {**spec.hyperparameters, **spec.environment})
    if not found and spec.opt_ml == "auto":
        return None
    if lost := private.hidden(spec.channels):
        return f"channels: {', '.join(lost)}: lies in /opt/ml of this machine, which the script's own would hide."
    why = private.impossible()
    return " ".join(refusal(found, why)) if why else ""


def opt_ml_problems(spec: ScriptSpec, files: Iterable[Path]) -> list[str]:
    """Why a script cannot be given the /opt/ml that it names, where it cannot; known before there is a job."""
    problem = _wanted(spec, Path(spec.source_dir), files)
    return [problem] if problem else []
