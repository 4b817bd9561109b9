"""Runs a job in the calling process: nothing to start, and a debugger stops where the job is."""

import io
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import TextIO

from houndsight.backends import base
from houndsight.backends.base import RunJob
from houndsight.backends.lock import held
from houndsight.folders import JobFolder
from houndsight.spec import Status
from houndsight.workspace import friendly_disk_errors

log = logging.getLogger("houndsight")


class InlineBackend:
    """`submit` returns when the job has ended; what it prints goes to the terminal and to the job's log."""

    name = "inline"

    def __init__(self, run_job: RunJob) -> None:
        self._run_job = run_job

    def submit(self, job: JobFolder) -> None:
        """Run the job from beginning to end."""
        base.refuse_if_alive(job)
        with held(job, patience=base.PATIENCE):
            base.prepare(job, self.name)
        with _printing_into(job):
            base.execute(job, self._run_job, self.name)

    def stop(self, job: JobFolder, grace: float = 120.0) -> Status:
        """Ask a job that runs in another thread or process to end, and wait `grace` seconds for it.

        Its process is not ours to kill: a job that takes longer is returned as STOPPING.
        """
        if (ended := base.ended_or_withdrawn(job)) is not None:
            return ended
        base.request_stop(job, grace)
        return self.wait(job, grace)

    def wait(self, job: JobFolder, timeout: float | None = None) -> Status:
        """Return when the job has ended, or after `timeout` seconds; one that nobody has started is not waited for."""
        return base.wait_for(job, timeout)


@contextmanager
def _printing_into(job: JobFolder) -> Iterator[None]:
    """Copy what Python prints and what the house logs into the job's log, while both go where they went before."""
    with friendly_disk_errors(job.path):
        file = job.log.open("a", encoding="utf-8", errors="backslashreplace", buffering=1)
    with file, redirect_stdout(_Tee(sys.stdout, file)), redirect_stderr(_Tee(sys.stderr, file)):
        handler = logging.StreamHandler(file)
        before = log.level
        log.addHandler(handler)
        if log.getEffectiveLevel() > logging.INFO:
            log.setLevel(logging.INFO)
        try:
            yield
        finally:
            log.setLevel(before)
            log.removeHandler(handler)


class _Tee(io.TextIOBase):
    """Writes to both; in all else it is the first."""

    def __init__(self, first: TextIO, second: TextIO) -> None:
        self._first = first
        self._second = second

    def write(self, text: str) -> int:
        self._second.write(text)
        return self._first.write(text)

    def flush(self) -> None:
        self._first.flush()

    def isatty(self) -> bool:
        return self._first.isatty()

    def fileno(self) -> int:
        return self._first.fileno()
