"""A workspace with a warm process, and scripts run as jobs from it and cold."""

import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from houndsight.backends import pool
from houndsight.backends.local import LocalBackend
from houndsight.contract.environment import at_start
from houndsight.contract.source import copy_source
from houndsight.folders import JobFolder
from houndsight.spec import Status
from houndsight.verbs.run import script_spec
from houndsight.workspace import Workspace

SCRIPT = {"kind": "script"}
LIGHT = str(Path(__file__).with_name("light.py"))


class Light(LocalBackend):
    """The local back end whose warm processes are light ones; nothing else differs."""

    def _seed(self, spec: Mapping[str, Any]) -> pool.Seed | None:
        seed = super()._seed(spec)
        return None if seed is None else pool.Seed(seed.kind, (*seed.python, LIGHT), seed.environment)


def eventually(true: Callable[[], object], seconds: float = 30.0) -> None:
    """Wait until something is so."""
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, "it never came true"
        threading.Event().wait(0.01)


class Yard:
    """A workspace whose script jobs are forked by a warm process, or started cold."""

    def __init__(self, workspace: Workspace, source: Path) -> None:
        self.workspace, self.source = workspace, source
        self.cold = LocalBackend(cold=True, of_script=at_start)
        self.backend = Light(of_script=at_start)
        source.mkdir()

    def job(self, code: str | Path, name: str | None = None, **settings: Any) -> JobFolder:
        """A job that runs this code, or this file; `# torch` lets it be forked."""
        text = code.read_text(encoding="utf-8") if isinstance(code, Path) else code
        (self.source / "script.py").write_text(text + "\n# torch\n", encoding="utf-8")
        spec = script_spec(self.source / "script.py", **settings)
        job = self.workspace.create(spec, name)
        copy_source(spec, job)
        return job

    def job_of(self, folder: Path, **settings: Any) -> JobFolder:
        """A job that runs `script.py` of a folder, which is copied whole."""
        spec = script_spec("script.py", source_dir=folder, **settings)
        job = self.workspace.create(spec)
        copy_source(spec, job)
        return job

    def run(self, job: JobFolder, cold: bool = False) -> Status:
        backend = self.cold if cold else self.backend
        backend.submit(job)
        return backend.wait(job, 60.0)

    def warm(self) -> psutil.Process:
        """The warm process; started first where there is none."""
        assert self.backend.warm_up(self.workspace.path, SCRIPT)
        found: list[psutil.Process] = []

        def alone() -> bool:  # a fork carries its name until it has one of its own
            found[:] = self.processes()
            return len(found) == 1

        eventually(alone)
        return found[0]

    def seed(self) -> pool.Seed:
        """How the warm process of its scripts is started."""
        seed = self.backend._seed(SCRIPT)
        assert seed is not None
        return seed

    @property
    def folder(self) -> Path:
        return pool.folder_of(self.workspace.path)

    def sockets(self) -> list[Path]:
        return sorted(self.folder.glob("*.sock"))

    def processes(self) -> list[psutil.Process]:
        """Warm processes of the workspace."""
        return [each for each in of(self.workspace.path) if "houndsight.warm" in each.info["cmdline"]]


def answers(place: Path) -> bool:
    """Whether a process listens there."""
    with socket.socket(socket.AF_UNIX) as line, pool.at(place) as address:
        return line.connect_ex(address) == 0


def of(path: Path) -> list[psutil.Process]:
    """Living processes with something of this folder in their arguments, but for the one that samples the machine."""
    return [
        each
        for each in psutil.process_iter(["cmdline", "status"])
        if each.info["status"] != psutil.STATUS_ZOMBIE
        and any(str(path) in word for word in each.info["cmdline"] or [])
        and "houndsight.watch.system" not in each.info["cmdline"]
    ]


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    """One for the tests of a file."""
    if sys.platform != "linux":
        pytest.skip("jobs start cold where a fork is not safe")
    folder = tmp_path_factory.mktemp("yard")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(pool.COLD, "0")
        yard = Yard(Workspace(folder / "runs"), folder / "source")
        yield yard
        for each in of(yard.workspace.path):
            with suppress(psutil.NoSuchProcess):
                each.kill()
                each.wait(10.0)


def log(job: JobFolder) -> str:
    """What the script printed, without the folder of its job; where that is deep, temporary files lie elsewhere."""
    text = job.log.read_text(encoding="utf-8").replace(str(job.path), "JOB").replace(job.name, "NAME")
    return re.sub(r"/[^\"' ]*/houndsight-\d+-[0-9a-f]+", "SCRATCH", text).replace("JOB/tmp", "SCRATCH")
