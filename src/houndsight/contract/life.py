"""The life of a script's process: started in a group of its own, read to its end, stopped, and nothing left of it."""

import os
import resource
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from houndsight.backends.base import Stop
from houndsight.backends.process import await_end
from houndsight.contract import stub
from houndsight.errors import JobError

LOOK = 0.2
"""Longest time between two looks at whether the script is to stop, in seconds."""
LEFTOVER_SECONDS = 1.0
"""What the script leaves behind may end by itself for so long before it is killed."""
MARK = "SAGEMAKER_BASE_DIR"
"""The variable by which a job's processes are known, in whatever group or session they are."""


@dataclass(frozen=True)
class Ending:
    """How it ended: exit code (negative: a signal) and, where it was stopped, why."""

    code: int
    stopped: str = ""
    killed: int = 0
    """Processes of the job that were still there and were killed."""
    cpu_seconds: float = 0.0
    """Processor time of the script and of the processes that it waited for."""
    peak_memory: int | None = None
    """Bytes that its largest process held at most; None where an earlier process of this one held as many."""


@dataclass(frozen=True)
class Limits:
    """When the script is stopped: asked to (`stop`), or after `seconds`; killed `grace` seconds after that."""

    stop: Stop
    seconds: float | None
    grace: Callable[[], float]


class Script:
    """One run of a command as a process group of its own; both its streams come through one pipe, so in order."""

    def __init__(self, command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> None:
        self._mark = environment[MARK]
        self._before = resource.getrusage(resource.RUSAGE_CHILDREN)
        self._pipe, output = os.pipe()
        try:
            self._process = stub.start(command, folder, environment, output) or _start(
                command, folder, environment, output
            )
        except BaseException:
            os.close(self._pipe)
            raise
        finally:
            os.close(output)
        os.set_blocking(self._pipe, False)

    def run(self, limits: Limits, feed: Callable[[bytes], None], idle: Callable[[], None]) -> Ending:
        """Hand on what it prints until it has ended; everything of it is gone when this returns or raises."""
        try:
            reason = self._watch(limits, feed, idle)
            killed = self._sweep(0.0 if reason else LEFTOVER_SECONDS)
            self._drain(feed)
        except BaseException:
            self._signal(signal.SIGKILL)
            self._process.wait()
            self._sweep(0.0)
            raise
        finally:
            os.close(self._pipe)
        before, used = self._before, resource.getrusage(resource.RUSAGE_CHILDREN)
        unit = 1 if sys.platform == "darwin" else 1024
        code = self._process.returncode
        assert code is not None, "it has ended"
        return Ending(
            code,
            reason,
            killed,
            used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime,
            used.ru_maxrss * unit if used.ru_maxrss > before.ru_maxrss else None,
        )

    def _watch(self, limits: Limits, feed: Callable[[bytes], None], idle: Callable[[], None]) -> str:
        began = time.monotonic()
        reason, asked, killed = "", began, False
        with selectors.DefaultSelector() as selector:
            selector.register(self._pipe, selectors.EVENT_READ)
            while True:
                if selector.get_map() and selector.select(LOOK):
                    data = os.read(self._pipe, 65536)
                    if data:
                        feed(data)
                    else:
                        selector.unregister(self._pipe)
                    if self._process.poll() is not None:  # what it has left behind may go on printing
                        return reason
                elif self._ended():
                    return reason
                else:
                    idle()
                now = time.monotonic()
                if not reason:
                    reason, asked = self._reason(limits, now - began), now
                    if reason:
                        self._signal(signal.SIGTERM)
                elif not killed and now >= asked + limits.grace():  # a second request may grant less
                    killed = True
                    self._signal(signal.SIGKILL)

    def _ended(self) -> bool:
        """Whether the process itself has ended; waits a moment where there is no pipe to wait for any more."""
        try:
            self._process.wait(LOOK / 4)
        except subprocess.TimeoutExpired:
            return False
        return True

    @staticmethod
    def _reason(limits: Limits, seconds: float) -> str:
        if limits.stop():
            return "stopped as asked"
        if limits.seconds is not None and seconds >= limits.seconds:
            limit = f"{limits.seconds:g} s" if limits.seconds < 60 else f"{limits.seconds / 60:.3g} min"
            return f"stopped at its time limit of {limit} (--max-minutes)"
        return ""

    def _signal(self, number: signal.Signals) -> None:
        if self._process.returncode is None:
            try:
                os.killpg(self._process.pid, number)
            except (ProcessLookupError, PermissionError):  # macOS says "not permitted" of a group of zombies
                return

    def _drain(self, feed: Callable[[bytes], None]) -> None:
        while True:
            try:
                data = os.read(self._pipe, 65536)
            except BlockingIOError:
                return
            if not data:
                return
            feed(data)

    def _sweep(self, patience: float) -> int:
        return kill_left(self._mark, self._process.pid, patience)


def _start(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], output: int
) -> "subprocess.Popen[bytes]":
    try:
        return subprocess.Popen(
            command,
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            process_group=0,
        )
    except OSError as error:
        raise JobError(f"The script could not be started: {error}.", "Look at its first line and its mode.") from error


def kill_left(mark: str, group: int | None = None, patience: float = 0.0) -> int:
    """Kill what is left of a job, forked by whatever it forked; returns how many processes had to be killed.

    They are known by the job's folder in their environment (`mark`) or by their process group. They may end by
    themselves for `patience` seconds. Raises `JobError` where some cannot be killed.
    """
    left = _of_the_job(mark, group)
    _await(left, patience)
    killed = 0
    deadline = time.monotonic() + 5.0
    while left := _of_the_job(mark, group) if left else []:  # again: they may have forked meanwhile
        if time.monotonic() > deadline:
            raise JobError(f"Processes of the job could not be killed: {', '.join(str(each.pid) for each in left)}.")
        for each in left:
            with suppress(psutil.NoSuchProcess):
                each.kill()
                killed += 1
        _await(left, 0.5)
    return killed


def _await(processes: list[psutil.Process], seconds: float) -> None:
    until = time.monotonic() + seconds
    for each in processes:
        await_end(each.pid, max(0.0, until - time.monotonic()))


def _of_the_job(mark: str, group: int | None) -> list[psutil.Process]:
    mine = {os.getpid(), *(each.pid for each in psutil.Process().parents())}
    return [each for each in psutil.process_iter() if each.pid not in mine and _belongs(each, mark, group)]


def _belongs(process: psutil.Process, mark: str, group: int | None) -> bool:
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        return os.getpgid(process.pid) == group or process.environ().get(MARK) == mark
    except (psutil.Error, OSError):
        return False
