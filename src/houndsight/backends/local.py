"""Runs a job in a process of its own that outlives the command which started it; `monitor` watches over it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict

from houndsight.backends import base, process
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
_monitors: dict[
    int, "subprocess.Popen[bytes]"
] = {}  # started by this process; kept until it has taken note of their end


class LocalBackend:
    """Jobs as processes on this machine. `command` is what runs a job; the job's folder is added as last argument."""

    name = "local"

    def __init__(self, command: Sequence[str] = (*_PYTHON, "houndsight.worker")) -> None:
        self._command = tuple(command)

    def submit(self, job: JobFolder) -> None:
        """Start the job and return at once; it is QUEUED until its process has taken over."""
        _reap()
        base.refuse_if_alive(job)
        with held(job, patience=base.PATIENCE) as lock:
            base.prepare(job, self.name)
            orders = Orders(
                command=[*self._command, str(job.path)],
                status=str(job.status),
                failure=str(job.failure),
                stop=str(job.stop_request),
                grace=GRACE,
                lock=lock,
                environment={VARIABLE: str(lock), "PYTHONUNBUFFERED": "1", **_settings(job)},
            )
            _launch(job, orders)

    def stop(self, job: JobFolder, grace: float = GRACE) -> Status:
        """Ask the job to end with SIGTERM, kill it after `grace` seconds, and return its final status."""
        now = base.status(job)
        if now.state in FINAL_STATES:
            return now
        if (withdrawn := base.withdraw(job)) is not None:
            return withdrawn
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


def _settings(job: JobFolder) -> dict[str, str]:
    """Settings of memory and threads for the house's own training, except where the user has set them.

    A script runs with what the user has.
    """
    if json.loads(job.spec.read_bytes()).get("kind") == "script":
        return {}
    return {name: value for name, value in FAST.items() if name not in os.environ}


def _launch(job: JobFolder, orders: Orders) -> None:
    """Start the monitor, write down that it is there, and only then give it its orders; the lock is held."""
    command = [sys.executable, "-P", "-m", "houndsight.backends.monitor", str(job.path)]
    with friendly_disk_errors(job.path):
        log = os.open(job.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HELD_BACK)
    try:
        monitor = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,
            pass_fds=(orders.lock,),
        )
    except OSError as error:
        raise JobError(f"No process could be started for job '{job.name}': {error.strerror}.") from error
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.close(log)
    _monitors[monitor.pid] = monitor
    assert monitor.stdin is not None
    with monitor.stdin as pipe:
        began = process.started(monitor.pid)
        update = {"pid": monitor.pid, "pid_started": began, "monitor": monitor.pid, "monitor_started": began}
        write_json(job.status, base.read(job).model_copy(update=update))
        pipe.write(json.dumps(asdict(orders)).encode())


def _reap() -> None:
    """Take note of monitors that have ended, so that they do not stay in the table of processes."""
    for pid in [pid for pid, monitor in _monitors.items() if monitor.poll() is not None]:
        del _monitors[pid]
