"""What a back end is, how a job's process keeps its status, and what that status truly is; every back end is built
from these.

Only a holder of the job's lock writes `status.json`: who submits it, the process that runs it, the one that watches
over it, or who finds it dead. A request to stop is a file of its own, so that STOPPING can overwrite nothing.
"""

import errno
import json
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Literal, Protocol

from houndsight.backends import process
from houndsight.backends.lock import already_running, held
from houndsight.backends.monitor import LEFTOVER_SECONDS
from houndsight.errors import DiskFullError, HoundsightError, JobError, WorkspaceError
from houndsight.folders import JobFolder
from houndsight.spec import FINAL_STATES, Status
from houndsight.workspace import atomic_write, friendly_disk_errors, write_json

log = logging.getLogger("houndsight")

Stop = Callable[[], bool]
"""Says whether the job is asked to end; costs nothing, so it may be called at every step."""
RunJob = Callable[[JobFolder, Stop], Literal["COMPLETED", "STOPPED"]]
"""What runs inside a job; errors are raised."""


class Stopped(Exception):  # noqa: N818 - not an error: somebody asked for it
    """A station was left because `Stop` said so."""


LOOK_SECONDS = 0.1
"""Longest time for which a running job has not seen a request to stop."""
FAILURE_CHARACTERS = 1024
"""Longest text of `output/failure`, as SageMaker cuts it."""
RESERVE_BYTES = 65536
PATIENCE = LEFTOVER_SECONDS + 1.0
"""Seconds that a new run of a job waits for the last one to clear up."""
WITHOUT_A_WORD = "the process ended without a word: killed, or the machine was restarted"


class Backend(Protocol):
    """Where jobs run. `submit` raises `WorkspaceError` for a job that runs already or was completed."""

    name: str

    def submit(self, job: JobFolder) -> None:
        """Start the job, or go on with one that failed or was stopped."""
        ...

    def stop(self, job: JobFolder, grace: float = 120.0) -> Status:
        """Ask the job to end, and return when it has; one that has ended is left as it is."""
        ...

    def wait(self, job: JobFolder, timeout: float | None = None) -> Status:
        """Return the status when the job and all its processes have ended, or as it is after `timeout` seconds."""
        ...


# ------------------------------------------------------------------------------- inside the job's process


def execute(job: JobFolder, run_job: RunJob, backend: str) -> Status:
    """Run a job in this process, from RUNNING to its final state, which is returned.

    Never raises what `run_job` raised: that is in the status, in `output/failure` and, for a bug, as a traceback in
    the log. Raises `WorkspaceError` where another process runs the job. SIGTERM and SIGINT ask the job to stop.
    """
    with held(job):
        parent = os.getppid()
        begun = Status.read(job.status).model_copy(
            update={
                "state": "RUNNING",
                "backend": backend,
                "pid": os.getpid(),
                "pid_started": process.started(os.getpid()),
                "started": time.time(),
                "ended": None,
                "exit_code": None,
                "reason": "",
                "error": None,
            }
        )
        with _reserve(job), _stop_signals() as signalled:
            job.failure.unlink(missing_ok=True)
            write_json(job.status, begun)
            changes = _outcome(job, run_job, _stop_request(job, signalled))
        orphaned = begun.monitor is not None and os.getppid() != parent
        if orphaned and changes["state"] == "STOPPED":
            changes |= {"state": "FAILED", "exit_code": 1, "reason": "the process that watched over it was killed"}
        ended = begun.model_copy(update={**changes, "ended": time.time()})
        settle(job, ended)
        if orphaned:
            process.kill_descendants(os.getpid())
    return ended


def settle(job: JobFolder, ended: Status) -> None:
    """Write the final status, and `output/failure` where the job failed; the lock is held.

    What the job itself wrote there stays: `execute` removes an earlier run's before it sets `started`.
    """
    if ended.state == "FAILED" and (ended.started is None or not job.failure.is_file()):
        with friendly_disk_errors(job.path):
            job.output.mkdir(exist_ok=True)
        with atomic_write(job.failure, "w") as file:
            file.write(ended.reason[:FAILURE_CHARACTERS])
    write_json(job.status, ended)


def _outcome(job: JobFolder, run_job: RunJob, stop: Stop) -> dict[str, Any]:
    """Run the job and say how it ended, as fields of `Status`."""
    try:
        state = run_job(job, stop)
    except KeyboardInterrupt:
        return {"state": "STOPPED", "exit_code": 0, "reason": "interrupted"}
    except SystemExit as error:
        return _failed(JobError(f"The job left by itself with exit code {error.code!r}."))
    except Exception as error:
        expected = _explained(error, job)
        if expected is None:
            log.exception("The job failed.")
            said = " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")
            expected = JobError(f"{said.removesuffix('.')}.", f"The traceback is in {job.log.name}.")
        return _failed(expected)
    why = json.loads(job.script.read_bytes()).get("stopped") if state == "STOPPED" and job.script.is_file() else ""
    return {"state": state, "exit_code": 0, "reason": (why or "stopped as asked") if state == "STOPPED" else ""}


def _explained(error: Exception, job: JobFolder) -> HoundsightError | None:
    """The error as one sentence for people, or None for a bug, which needs its traceback."""
    if isinstance(error, HoundsightError):
        return error
    if isinstance(error, MemoryError):
        return JobError("The machine ran out of memory.", "Try a smaller --batch-size or --image-size.")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        place = error.filename or job.path
        return DiskFullError(f"No room left on the disk of {place}.", "Free some space, then --resume.")
    return None


def _failed(error: HoundsightError) -> dict[str, Any]:
    document = error.document()
    return {"state": "FAILED", "exit_code": error.exit_code, "reason": str(error), "error": document}


@contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """While it lasts SIGTERM and SIGINT set the flag and do nothing else; only a main thread can hear them."""
    flag = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return

    def note(_number: int, _frame: FrameType | None) -> None:
        flag.set()

    before = {each: signal.signal(each, note) for each in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield flag
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _stop_request(job: JobFolder, signalled: threading.Event) -> Stop:
    """A `Stop` that looks at the flag at every call and for the file at most every `LOOK_SECONDS`."""
    request = job.stop_request
    next_look = 0.0

    def stop() -> bool:
        nonlocal next_look
        if signalled.is_set():
            return True
        now = time.monotonic()
        if now >= next_look:
            next_look = now + LOOK_SECONDS
            if request.exists():
                signalled.set()
        return signalled.is_set()

    return stop


@contextmanager
def _reserve(job: JobFolder) -> Iterator[None]:
    """Keep a little room on the disk until the job has ended, so that a full disk can still be told of."""
    with friendly_disk_errors(job.path):
        job.reserve.write_bytes(os.urandom(RESERVE_BYTES))
    try:
        yield
    finally:
        job.reserve.unlink(missing_ok=True)


# ------------------------------------------------------------------------------- from any other process


def status(job: JobFolder) -> Status:
    """The true status: a job whose process is gone is marked FAILED, and one that was asked to stop is STOPPING."""
    now = read(job)
    if now.state in FINAL_STATES or now.pid is None:
        return now
    if not process.alive(now.pid, now.pid_started) and not process.alive(now.monitor, now.monitor_started):
        try:
            with held(job):
                now = _bury(job)
        except WorkspaceError:
            now = read(job)  # held by a process in another container, or just being started or settled
    if now.state in ("QUEUED", "RUNNING") and job.stop_request.exists():
        return now.model_copy(update={"state": "STOPPING"})
    return now


def read(job: JobFolder) -> Status:
    """What `status.json` says; raises `WorkspaceError` where there is none or it is not ours."""
    try:
        return Status.read(job.status)
    except FileNotFoundError:
        raise WorkspaceError(f"There is no job in {job.path}.", "`houndsight jobs` lists them.") from None


def _bury(job: JobFolder) -> Status:
    """Mark a job whose process is gone as FAILED; the lock is held, so nobody else does."""
    now = read(job)
    if now.state in FINAL_STATES or now.pid is None or process.alive(now.pid, now.pid_started):
        return now
    dead = now.model_copy(update={"state": "FAILED", "reason": WITHOUT_A_WORD, "ended": time.time()})
    try:
        settle(job, dead)
    except HoundsightError as error:
        log.warning("The end of job '%s' could not be written down: %s", job.name, error)
    return dead


def prepare(job: JobFolder, backend: str) -> None:
    """Make an idle job QUEUED again, without what an earlier run left behind; the lock is held."""
    now = read(job)
    if now.state == "COMPLETED":
        raise WorkspaceError(f"The job '{job.name}' is completed.", "Start a new one, or open its report.")
    job.stop_request.unlink(missing_ok=True)
    job.progress.unlink(missing_ok=True)
    write_json(job.status, Status(state="QUEUED", backend=backend, created=now.created))


def refuse_if_alive(job: JobFolder) -> None:
    """Raise `WorkspaceError` where the job has a living process."""
    now = status(job)
    if now.state not in FINAL_STATES and now.pid is not None:
        raise already_running(job)


def request_stop(job: JobFolder, grace: float) -> None:
    """Leave the request to stop in the job's folder; it says for how many seconds the job may take its time."""
    with atomic_write(job.stop_request, "w") as file:
        file.write(json.dumps(grace))


def withdraw(job: JobFolder) -> Status | None:
    """Mark a job that nobody has started as STOPPED; None where somebody has."""
    try:
        with held(job):
            now = read(job)
            if now.state != "QUEUED" or now.pid is not None:
                return None
            now = now.model_copy(update={"state": "STOPPED", "reason": "stopped before it began", "ended": time.time()})
            settle(job, now)
            return now
    except WorkspaceError:
        return None


def ended_or_withdrawn(job: JobFolder) -> Status | None:
    """The status of a job that a request to stop has nothing to do with any more; None for one that runs."""
    now = status(job)
    return now if now.state in FINAL_STATES else withdraw(job)


def wait_for(job: JobFolder, timeout: float | None) -> Status:
    """Block until the job and what watches over it have ended, or `timeout` seconds have passed, and return the status.

    A job that nobody has started is not waited for.
    """
    until = float("inf") if timeout is None else time.monotonic() + timeout
    while True:
        now = status(job)
        left = until - time.monotonic()
        if idle(now) or left <= 0:
            return now
        if process.alive(now.monitor, now.monitor_started):
            assert now.monitor is not None
            process.await_end(now.monitor, None if timeout is None else left)
        else:  # in this very process, or out of sight in another container
            threading.Event().wait(min(left, LOOK_SECONDS))


def idle(now: Status) -> bool:
    """Whether nothing of the job runs: it has ended, all of it, or nobody has started it."""
    at_rest = now.state in FINAL_STATES or now.pid is None
    return at_rest and not process.alive(now.monitor, now.monitor_started)
