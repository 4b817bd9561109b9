"""The workspace and atomic writing; above the specs and the file names, below everything that works with jobs.

<workspace>/jobs/<name>/...         one folder a job
<workspace>/tunings/<name>/...      one folder a search; its trials are jobs
<workspace>/endpoints/<name>/...    one folder an endpoint
<workspace>/cache/...               what jobs share and may be deleted
"""

import errno
import json
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from pydantic import BaseModel

from houndsight.errors import DiskFullError, HoundsightError, WorkspaceError, did_you_mean
from houndsight.folders import EndpointFolder, JobFolder, TuningFolder
from houndsight.spec import Status

Progress = Callable[[str, int, int], None]
"""Told (stage, done, total) as often as the caller likes; the receiver limits its own rate."""

NAME = re.compile(r"[a-zA-Z0-9](?:-*[a-zA-Z0-9]){0,62}")
_ADJECTIVES = "amber brisk calm dusky eager fleet gentle hazel keen lively merry noble quick ruddy swift tawny".split()
_NOUNS = "airedale basset beagle borzoi briard collie corgi harrier kelpie pointer saluki setter spaniel vizsla".split()


@dataclass(frozen=True)
class Workspace:
    """The folder that holds jobs and caches; made when first written to."""

    path: Path

    @classmethod
    def find(cls, path: str | Path | None = None) -> "Workspace":
        """The given folder, else `$HOUNDSIGHT_HOME`, else `./runs`."""
        return cls(Path(path or os.environ.get("HOUNDSIGHT_HOME") or "runs").expanduser().absolute())

    @property
    def jobs(self) -> Path:
        """Folder of jobs."""
        return self.path / "jobs"

    @property
    def tunings(self) -> Path:
        """Folder of tunings."""
        return self.path / "tunings"

    @property
    def endpoints(self) -> Path:
        """Folder of endpoints."""
        return self.path / "endpoints"

    @property
    def cache(self) -> Path:
        """Folder of what may be deleted."""
        return self.path / "cache"

    def names(self) -> list[str]:
        """Names of all jobs, oldest first."""
        return _names(self.jobs, "spec.json")

    def tuning_names(self) -> list[str]:
        """Names of all tunings, oldest first."""
        return _names(self.tunings, "tuning.json")

    def endpoint_names(self) -> list[str]:
        """Names of all endpoints, oldest first."""
        return _names(self.endpoints, "endpoint.json")

    def job(self, name: str) -> JobFolder:
        """The job of that name; raises `WorkspaceError` with the nearest names where there is none."""
        folder = JobFolder(self.jobs / name)
        if not NAME.fullmatch(name) or not folder.spec.is_file():
            hint = did_you_mean(name, self.names()) or "`houndsight jobs` lists them."
            raise WorkspaceError(f"There is no job '{name}' in {self.path}.", hint)
        return folder

    def tuning(self, name: str) -> TuningFolder:
        """The tuning of that name; raises `WorkspaceError` with the nearest names where there is none."""
        folder = TuningFolder(self.tunings / name)
        if not NAME.fullmatch(name) or not folder.spec.is_file():
            hint = did_you_mean(name, self.tuning_names()) or "`houndsight jobs` lists them."
            raise WorkspaceError(f"There is no tuning '{name}' in {self.path}.", hint)
        return folder

    def endpoint(self, name: str) -> EndpointFolder:
        """The endpoint of that name; raises `WorkspaceError` with the nearest names where there is none."""
        folder = EndpointFolder(self.endpoints / name)
        if not NAME.fullmatch(name) or not folder.spec.is_file():
            hint = did_you_mean(name, self.endpoint_names()) or "`houndsight endpoints` lists them."
            raise WorkspaceError(f"There is no endpoint '{name}' in {self.path}.", hint)
        return folder

    def create(self, spec: BaseModel, name: str | None = None, backend: str = "local") -> JobFolder:
        """Make the folder of a new job, whole or not at all: `spec.json` and `status.json` (QUEUED) are in it."""
        status = Status(state="QUEUED", backend=backend, created=time.time())
        return JobFolder(self._create(self.jobs, "spec.json", asked(spec), status, name))

    def create_tuning(self, spec: BaseModel, name: str | None = None) -> TuningFolder:
        """Make the folder of a new tuning, whole or not at all: `tuning.json` and `status.json` (QUEUED) are in it."""
        document = spec.model_dump(mode="json")
        status = Status(state="QUEUED", created=time.time())
        return TuningFolder(self._create(self.tunings, "tuning.json", document, status, name))

    def create_endpoint(self, spec: BaseModel, status: BaseModel, name: str | None = None) -> EndpointFolder:
        """Make the folder of a new endpoint, whole or not at all: `endpoint.json` and `status.json` are in it."""
        return EndpointFolder(self._create(self.endpoints, "endpoint.json", spec.model_dump(mode="json"), status, name))

    def _create(self, parent: Path, file: str, document: dict[str, Any], status: BaseModel, name: str | None) -> Path:
        """Jobs, tunings and endpoints share one name space."""
        taken = [*self.names(), *self.tuning_names(), *self.endpoint_names()]
        name = name or new_name(taken)
        if not NAME.fullmatch(name):
            raise WorkspaceError(
                f"'{name}' cannot be the name of a {parent.name[:-1]}.",
                "Names have 1 to 63 letters, digits and inner hyphens.",
            )
        staged, final = parent / f".{name}.{secrets.token_hex(4)}", parent / name
        with friendly_disk_errors(self.path):
            parent.mkdir(parents=True, exist_ok=True)
            for each in (self.jobs, self.tunings, self.endpoints):
                if (each / name).exists():
                    raise _taken(each, name, self.path)
            staged.mkdir()
            write_json(staged / file, document)
            write_json(staged / "status.json", status)
            try:
                staged.rename(final)
            except OSError as error:
                remove_tree(staged)
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                raise _taken(parent, name, self.path) from None
        return final


def _names(parent: Path, file: str) -> list[str]:
    if not parent.is_dir():
        return []
    folders = [each for each in parent.iterdir() if not each.name.startswith(".") and (each / file).is_file()]
    return [each.name for each in sorted(folders, key=lambda each: (each / file).stat().st_mtime)]


def _taken(parent: Path, name: str, workspace: Path) -> WorkspaceError:
    kind = {"jobs": "A job", "tunings": "A tuning", "endpoints": "An endpoint"}[parent.name]
    return WorkspaceError(f"{kind} '{name}' exists already in {workspace}.", "Choose another --name.")


def asked(spec: BaseModel) -> dict[str, Any]:
    """What was given of a spec, without the defaults: recipes decide the rest, and `plan.json` says how."""
    given: dict[str, Any] = spec.model_dump(mode="json", exclude_unset=True)
    return {"kind": spec.model_dump(include={"kind"})["kind"], **given}


def new_name(taken: list[str]) -> str:
    """A short, speakable name that is not in `taken`, such as `swift-beagle-4f`."""
    while True:
        name = f"{secrets.choice(_ADJECTIVES)}-{secrets.choice(_NOUNS)}-{secrets.token_hex(1)}"
        if name not in taken:
            return name


def remove_tree(path: Path) -> None:
    """Delete a folder of ours and everything in it."""
    import shutil

    shutil.rmtree(path, ignore_errors=True)


@contextmanager
def atomic_write(path: Path, mode: str = "wb") -> Iterator[IO[Any]]:
    """Open a file that appears under its name only when it is whole and on disk.

    Raises `DiskFullError` where there is no room; the name then keeps what it had before.
    """
    staged = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    with friendly_disk_errors(path.parent):
        try:
            with open(staged, mode, encoding=None if "b" in mode else "utf-8") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(staged, path)
        except BaseException:
            staged.unlink(missing_ok=True)
            raise


def write_json(path: Path, document: BaseModel | dict[str, Any] | list[Any]) -> None:
    """Write a document atomically: a reader sees the old one or the new one, never half of one."""
    text = document.model_dump_json(indent=1) if isinstance(document, BaseModel) else json.dumps(document, indent=1)
    with atomic_write(path) as file:
        file.write(text.encode() + b"\n")


@contextmanager
def friendly_disk_errors(place: Path) -> Iterator[None]:
    """Turn the operating system's refusals to write into one sentence with the place and the way out."""
    try:
        yield
    except HoundsightError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise DiskFullError(f"No room left on the disk of {place}.", "Free some space, then --resume.") from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR) or (
            error.errno == errno.ENOENT and not place.exists()
        ):
            raise WorkspaceError(
                f"Cannot write to {place}: {error.strerror}.", "Choose another folder with --workspace."
            ) from error
        raise
