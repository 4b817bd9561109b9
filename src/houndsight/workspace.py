"""Every file name of the house and atomic writing; above the specs, below everything that works with jobs.

<workspace>/jobs/<name>/...     one folder a job
<workspace>/cache/...           what jobs share and may be deleted
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
from houndsight.spec import Status

Progress = Callable[[str, int, int], None]
"""Told (stage, done, total) as often as the caller likes; the receiver limits its own rate."""

NAME = re.compile(r"[a-zA-Z0-9](?:-*[a-zA-Z0-9]){0,62}")
_ADJECTIVES = "amber brisk calm dusky eager fleet gentle hazel keen lively merry noble quick ruddy swift tawny".split()
_NOUNS = "airedale basset beagle borzoi briard collie corgi harrier kelpie pointer saluki setter spaniel vizsla".split()


@dataclass(frozen=True)
class JobFolder:
    """The files of one job; every name of a job's file stands here and nowhere else."""

    path: Path

    @property
    def name(self) -> str:
        """Name of the job: the folder's own name."""
        return self.path.name

    @property
    def spec(self) -> Path:
        """What was asked for."""
        return self.path / "spec.json"

    @property
    def status(self) -> Path:
        """Where it stands."""
        return self.path / "status.json"

    @property
    def plan(self) -> Path:
        """What was decided from the spec, the data and the machine; a resumed job keeps it."""
        return self.path / "plan.json"

    @property
    def log(self) -> Path:
        """What it printed."""
        return self.path / "log.txt"

    @property
    def progress(self) -> Path:
        """How far the present stage is; rewritten a few times a second while the job runs."""
        return self.path / "progress.json"

    @property
    def stop_request(self) -> Path:
        """Exists when somebody asked the job to stop."""
        return self.path / "stop"

    @property
    def lock(self) -> Path:
        """Held by the process that runs the job."""
        return self.path / "lock"

    @property
    def reserve(self) -> Path:
        """A little room that a running job keeps on the disk, to be able to say that the disk is full."""
        return self.path / ".reserve"

    @property
    def index(self) -> Path:
        """The data as it was found."""
        return self.path / "index.json"

    @property
    def check(self) -> Path:
        """What is wrong with the data."""
        return self.path / "check.json"

    @property
    def records(self) -> Path:
        """Folder of scalars, spans and statistics."""
        return self.path / "records"

    @property
    def findings(self) -> Path:
        """What the rules found."""
        return self.path / "findings.json"

    @property
    def checkpoints(self) -> Path:
        """Folder of checkpoints."""
        return self.path / "checkpoints"

    @property
    def evaluation(self) -> Path:
        """Folder of results."""
        return self.path / "evaluation"

    @property
    def model(self) -> Path:
        """Folder of the artifact."""
        return self.path / "model"

    @property
    def output(self) -> Path:
        """Folder of packed results."""
        return self.path / "output"

    @property
    def model_archive(self) -> Path:
        """The artifact as SageMaker packs it."""
        return self.output / "model.tar.gz"

    @property
    def failure(self) -> Path:
        """Why the job failed, as SageMaker words it."""
        return self.output / "failure"

    @property
    def output_archive(self) -> Path:
        """What a script wrote beside its model, as SageMaker packs it."""
        return self.output / "output.tar.gz"

    @property
    def input(self) -> Path:
        """Folder of a script's configuration and of links to its data."""
        return self.path / "input"

    @property
    def code(self) -> Path:
        """Folder of a script job's copy of its code; the script's working directory."""
        return self.path / "code"

    @property
    def scratch(self) -> Path:
        """Folder of a script's temporary files; there only while it runs."""
        return self.path / "tmp"

    @property
    def script(self) -> Path:
        """How a script ran: command, exit code, metrics, and where it failed."""
        return self.path / "script.json"

    @property
    def report(self) -> Path:
        """The page."""
        return self.path / "report.html"

    @property
    def report_data(self) -> Path:
        """The page's JSON twin."""
        return self.path / "report.json"


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
    def cache(self) -> Path:
        """Folder of what may be deleted."""
        return self.path / "cache"

    def names(self) -> list[str]:
        """Names of all jobs, oldest first."""
        if not self.jobs.is_dir():
            return []
        folders = [each for each in self.jobs.iterdir() if (each / "spec.json").is_file()]
        return [each.name for each in sorted(folders, key=lambda each: (each / "spec.json").stat().st_mtime)]

    def job(self, name: str) -> JobFolder:
        """The job of that name; raises `WorkspaceError` with the nearest names where there is none."""
        folder = JobFolder(self.jobs / name)
        if not NAME.fullmatch(name) or not folder.spec.is_file():
            hint = did_you_mean(name, self.names()) or "`houndsight jobs` lists them."
            raise WorkspaceError(f"There is no job '{name}' in {self.path}.", hint)
        return folder

    def create(self, spec: BaseModel, name: str | None = None, backend: str = "local") -> JobFolder:
        """Make the folder of a new job, whole or not at all: `spec.json` and `status.json` (QUEUED) are in it."""
        name = name or new_name(self.names())
        if not NAME.fullmatch(name):
            raise WorkspaceError(
                f"'{name}' cannot be the name of a job.",
                "Names have 1 to 63 letters, digits and inner hyphens.",
            )
        staged = JobFolder(self.jobs / f".{name}.{secrets.token_hex(4)}")
        final = self.jobs / name
        with friendly_disk_errors(self.path):
            self.jobs.mkdir(parents=True, exist_ok=True)
            if final.exists():
                raise WorkspaceError(f"A job '{name}' exists already in {self.path}.", "Choose another --name.")
            staged.path.mkdir()
            write_json(staged.spec, asked(spec))
            write_json(staged.status, Status(state="QUEUED", backend=backend, created=time.time()))
            try:
                staged.path.rename(final)
            except OSError as error:
                remove_tree(staged.path)
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                raise WorkspaceError(
                    f"A job '{name}' exists already in {self.path}.", "Choose another --name."
                ) from None
        return JobFolder(final)


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
