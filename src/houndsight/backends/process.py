"""Is that process still there, and when does it end; below the back ends, above nothing but the operating system."""

import os
import select
import signal
import sys
from contextlib import suppress

import psutil

CLOCK_STEP = 2.0
"""Seconds by which the start time of one process may appear to move: the kernel's boot time follows the clock."""


def started(pid: int) -> float:
    """When that process began, seconds since the epoch; raises `psutil.NoSuchProcess` where there is none."""
    return float(psutil.Process(pid).create_time())


def alive(pid: int | None, since: float | None) -> bool:
    """Whether the process `pid` that began at `since` still runs: one that awaits its parent's attention does not,
    and a later process that was given the same number is not taken for it.
    """
    if pid is None:
        return False
    try:
        process = psutil.Process(pid)
        if since is not None and abs(process.create_time() - since) > CLOCK_STEP:
            return False
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def await_end(pid: int, timeout: float | None) -> bool:
    """Block until the process `pid`, a child or not, has ended (True) or `timeout` seconds have passed (False)."""
    if sys.platform == "linux":
        with suppress(OSError):  # a kernel before 5.3, or one that keeps this call to itself
            return _await_descriptor(pid, timeout)
    try:
        psutil.Process(pid).wait(timeout)
    except psutil.TimeoutExpired:
        return False
    except psutil.NoSuchProcess:
        return True
    return True


def _await_descriptor(pid: int, timeout: float | None) -> bool:
    try:
        file = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        poll = select.poll()
        poll.register(file, select.POLLIN)
        return bool(poll.poll(None if timeout is None else timeout * 1000))
    finally:
        os.close(file)


def kill_descendants(pid: int) -> None:
    """Kill every process that descends from `pid`, without asking."""
    with suppress(psutil.NoSuchProcess):
        for each in psutil.Process(pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                each.kill()


def kill_tree(pid: int | None, since: float | None) -> None:
    """Kill that process, if it is still the same, and every process that descends from it."""
    if pid is not None and alive(pid, since):
        kill_descendants(pid)
        signal_process(pid, since, signal.SIGKILL)


def signal_process(pid: int | None, since: float | None, number: signal.Signals) -> bool:
    """Send the signal to that process if it is still the same; says whether it was there."""
    if pid is None or not alive(pid, since):
        return False
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True
