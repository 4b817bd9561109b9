"""Both back ends over the jobs of `jobs.py`, and what their tests wait with."""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from houndsight.backends import process
from houndsight.backends.base import Backend, read
from houndsight.backends.inline import InlineBackend
from houndsight.backends.local import LocalBackend
from houndsight.folders import JobFolder
from houndsight.spec import ClassifierSpec
from houndsight.workspace import Workspace

from .jobs import run_job

COMMAND = (sys.executable, "-P", str(Path(__file__).with_name("jobs.py")))


class Bench:
    """A workspace with jobs that are started beside the test and awaited at its end."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.threads: list[threading.Thread] = []

    def job(self, behaviour: str, backend: str = "local", name: str | None = None) -> JobFolder:
        return self.workspace.create(ClassifierSpec(data=behaviour), name, backend)

    def start(self, backend: Backend, job: JobFolder) -> None:
        """Submit, without waiting for the job where it runs in this process."""
        thread = threading.Thread(target=backend.submit, args=(job,))
        thread.start()
        if backend.name == "inline":
            self.threads.append(thread)
        else:
            thread.join()


def eventually(true: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait until something is so."""
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, "it never came true"
        threading.Event().wait(0.01)


def is_ready(job: JobFolder) -> Callable[[], bool]:
    return (job.path / "ready").exists


def processes_of(job: JobFolder) -> list[psutil.Process]:
    """Every living process that carries the job's folder in its arguments.

    One that is just dying has lost its arguments already, for some 30 ms on a busy machine before it lets go of its
    files: who asks for the lock or the status next awaits the end with `process.await_end`.
    """
    return [
        each
        for each in psutil.process_iter(["cmdline", "status"])
        if str(job.path) in (each.info["cmdline"] or []) and each.info["status"] != psutil.STATUS_ZOMBIE
    ]


@pytest.fixture
def bench(workspace: Workspace) -> Iterator[Bench]:
    bench = Bench(workspace)
    yield bench
    for name in workspace.names():
        job = workspace.job(name)
        now = read(job)
        job.stop_request.touch()
        process.kill_tree(now.monitor, now.monitor_started)
        if now.pid != os.getpid():
            process.kill_tree(now.pid, now.pid_started)
    for thread in bench.threads:
        thread.join(10.0)


@pytest.fixture(params=["inline", "local"])
def backend(request: pytest.FixtureRequest) -> Backend:
    return InlineBackend(run_job) if request.param == "inline" else LocalBackend(COMMAND)


@pytest.fixture
def local() -> LocalBackend:
    return LocalBackend(COMMAND)
