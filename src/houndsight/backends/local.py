"""Runs a job in a process of its own that outlives the command which started it; `monitor` watches over it.

Both are forked by a warm process (`pool`) where there is one, and started as programs where there is none.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from houndsight.backends import base, pool, process
from houndsight.backends.lock import VARIABLE, held
from houndsight.backends.monitor import Orders
from houndsight.errors import JobError
from houndsight.folders import JobFolder
from houndsight.spec import FINAL_STATES, Status
from houndsight.workspace import friendly_disk_errors, write_json

GRACE = 120.0
"""Seconds between SIGTERM and SIGKILL, as on SageMaker."""

FAST = {
    "MALLOC_MMAP_THRESHOLD_": str(4 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(16 << 30),
    "MALLOC_TOP_PAD_": str(256 << 20),
    "GOMP_SPINCOUNT": "0",
}
"""Memory that is freed is kept for the next step, and a thread that waits for the others sleeps.

Fine-tuning MobileNetV2 at 224 px on two cores beside other work, CPU-ms an image, two runs each: 344 and 254 without,
143 and 186 with the memory settings, 78 and 59 with the last one, 54 and 56 with all (2 images a second, then 15)."""

MARGIN_SECONDS = 10.0
"""What the monitor may take beyond the grace before it is taken for dead."""
HELD_BACK = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Signals that a starting monitor keeps until it can hear them."""

# -P keeps the folder in which the user stands off the import path: a random.py there is not Python's.
_PYTHON = (sys.executable, "-P", "-u", "-m")
WORKER = (*_PYTHON, "houndsight.worker")
"""What runs a job."""
OfScript = Callable[[Mapping[str, str], Mapping[str, str]], dict[str, str]]
"""From a script's own variables and the caller's to those that the script is started with."""
_children: dict[
    int, "subprocess.Popen[bytes]"
] = {}  # started by this process; kept until it has taken note of their end


class LocalBackend:
    """Jobs as processes on this machine. `command` is what runs a job; the job's folder is added as last argument."""

    name = "local"

    def __init__(
        self,
        command: Sequence[str] = WORKER,
        *,
        cold: bool = False,
        of_script: OfScript | None = None,
    ) -> None:
        self._command = tuple(command)
        self._warm = not cold and self._command == WORKER and pool.usable(os.environ)
        self._of_script = of_script

    def submit(self, job: JobFolder) -> None:
        """Start the job and return at once; it is QUEUED until its process has taken over."""
        _reap()
        base.refuse_if_alive(job)
        with held(job, patience=base.PATIENCE) as lock:
            base.prepare(job, self.name)
            spec = json.loads(job.spec.read_bytes())
            orders = Orders(
                command=[*self._command, str(job.path)],
                status=str(job.status),
                failure=str(job.failure),
                stop=str(job.stop_request),
                grace=GRACE,
                lock=lock,
                environment={VARIABLE: str(lock), "PYTHONUNBUFFERED": "1", **_settings(spec)},
            )
            _launch(job, orders, self._seed(spec) if self._warm else None)

    def warm_up(self, workspace: Path, spec: Mapping[str, Any], stop: base.Stop = lambda: False) -> bool:
        """Return when a warm process for jobs of this spec answers (True), or when there will be none.

        Without it one warms up when the first job has ended. Who has many jobs to start calls it first: 8 s once, where
        each cold start takes as much.
        """
        seed = self._seed(spec) if self._warm else None
        if seed is None:
            return False
        _keep(pool.start(workspace, seed, None))
        while not (warm := pool.answers(workspace, seed)) and pool.lives(workspace, seed) and not stop():
            threading.Event().wait(base.LOOK_SECONDS)
        return warm

    def _seed(self, spec: Mapping[str, Any]) -> pool.Seed | None:
        """How the process that a job of this spec is forked from is started."""
        if spec.get("kind") == "script":
            if self._of_script is None:
                return None
            return pool.Seed("script", (sys.executable,), self._of_script(spec.get("environment", {}), os.environ))
        return pool.Seed("classifier", _PYTHON[:-1], {**os.environ, "PYTHONUNBUFFERED": "1", **_settings(spec)})

    def stop(self, job: JobFolder, grace: float = GRACE) -> Status:
        """Ask the job to end with SIGTERM, kill it after `grace` seconds, and return its final status."""
        if (ended := base.ended_or_withdrawn(job)) is not None:
            return ended
        now = base.status(job)
        base.request_stop(job, grace)
        if not process.signal_process(now.monitor, now.monitor_started, signal.SIGTERM):
            process.signal_process(now.pid, now.pid_started, signal.SIGTERM)
        now = self.wait(job, grace + MARGIN_SECONDS)
        if now.state not in FINAL_STATES:
            process.kill_tree(now.monitor, now.monitor_started)
            process.kill_tree(now.pid, now.pid_started)
            now = self.wait(job, MARGIN_SECONDS)
        return now

    def wait(self, job: JobFolder, timeout: float | None = None) -> Status:
        """Return when the job and all it started have ended, or after `timeout` seconds; a job that nobody has
        started is not waited for.
        """
        now = base.wait_for(job, timeout)
        _reap()
        return now


def _settings(spec: Mapping[str, Any]) -> dict[str, str]:
    """Settings of memory and threads for the house's own training, except where the user has set them.

    A script runs with what the user has.
    """
    if spec.get("kind") != "classifier":
        return {}
    return {name: value for name, value in FAST.items() if name not in os.environ}


def _launch(job: JobFolder, orders: Orders, seed: pool.Seed | None) -> None:
    """Start the monitor, write down that it is there, and only then give it its orders; the lock is held."""
    command = [sys.executable, "-P", "-m", "houndsight.backends.monitor", str(job.path)]
    with friendly_disk_errors(job.path):
        log = os.open(job.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    try:
        forked = None
        if seed is not None:
            request = pool.Request(command, str(Path.cwd()), dict(os.environ))
            forked = pool.fork(_workspace(job), seed, request, (log, orders.lock))
        pid, line = _execute(job, command, log, orders.lock) if forked is None else forked
    finally:
        os.close(log)
    with line:
        began = process.started(pid)
        update = {"pid": pid, "pid_started": began, "monitor": pid, "monitor_started": began}
        write_json(job.status, base.read(job).model_copy(update=update))
        line.sendall(json.dumps(asdict(orders)).encode())
    if seed is not None and forked is None:
        _keep(pool.start(_workspace(job), seed, pid))


def _execute(job: JobFolder, command: list[str], log: int, lock: int) -> tuple[int, socket.socket]:
    """Start the monitor as a program; its number, and the line on which it takes its orders."""
    ours, theirs = socket.socketpair()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HELD_BACK)
    try:
        with theirs:
            monitor = subprocess.Popen(
                command, stdin=theirs.fileno(), stdout=log, stderr=log, start_new_session=True, pass_fds=(lock,)
            )
    except OSError as error:
        ours.close()
        raise JobError(f"No process could be started for job '{job.name}': {error.strerror}.") from error
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    _keep(monitor)
    return monitor.pid, ours


def _keep(child: "subprocess.Popen[bytes] | None") -> None:
    if child is not None:
        _children[child.pid] = child


def _workspace(job: JobFolder) -> Path:
    return job.path.parent.parent


def _reap() -> None:
    """Take note of children that have ended, so that they do not stay in the table of processes."""
    for pid in [pid for pid, child in _children.items() if child.poll() is not None]:
        del _children[pid]
