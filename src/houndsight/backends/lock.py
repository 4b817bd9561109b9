"""The lock by which one job never runs twice: held by whoever runs it, watches over it, submits it or buries it.

It is the kernel's (`flock`), so it ends with the last process that holds it, however that process ends, and it holds
between containers that share a disk.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from threading import Event

from houndsight.errors import WorkspaceError
from houndsight.folders import JobFolder
from houndsight.workspace import friendly_disk_errors

VARIABLE = "HOUNDSIGHT_LOCK"
"""Environment variable with the descriptor of the lock that a process was born with."""
RETRY_SECONDS = 0.01

_held: set[int] = set()


@contextmanager
def held(job: JobFolder, patience: float = 0.0) -> Iterator[int]:
    """Hold the job's lock; gives its descriptor, with which a child may be born that then holds it too.

    Where this process was born with the lock it is that one. Raises `WorkspaceError` where another process still
    holds it after `patience` seconds. Forked children (of a data loader, say) let go of it at once.
    """
    _let_go_in_forks()
    file = _inherited(job)
    if file is None:
        with friendly_disk_errors(job.path):
            file = os.open(job.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    _held.add(file)
    try:
        _lock(file, job, patience)
        yield file
    finally:
        _held.discard(file)
        os.close(file)


def already_running(job: JobFolder) -> WorkspaceError:
    """What to tell someone who wants to start a job that has a living process."""
    return WorkspaceError(
        f"The job '{job.name}' is running already.",
        f"`houndsight logs -f {job.name}` follows it, `houndsight stop {job.name}` stops it.",
    )


def _inherited(job: JobFolder) -> int | None:
    given = os.environ.pop(VARIABLE, "")
    if not given.isdigit():
        return None
    file = int(given)
    try:
        if not os.path.samestat(os.fstat(file), job.lock.stat()):
            return None
    except OSError:
        return None
    os.set_inheritable(file, False)
    return file


def _lock(file: int, job: JobFolder, patience: float) -> None:
    """Flock with a time limit, which the kernel's own call does not have."""
    until = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                raise already_running(job) from None
            Event().wait(RETRY_SECONDS)
        else:
            return


@cache
def _let_go_in_forks() -> None:
    def let_go() -> None:
        for file in _held:
            os.close(file)
        _held.clear()

    os.register_at_fork(after_in_child=let_go)
