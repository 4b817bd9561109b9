"""Watches over the process of one job and outlives it: starts it, stops it, says how it ended, clears up after it.

Started by `local` as `python -m houndsight.backends.monitor <job folder>` in a session of its own, with its orders as
JSON on standard input (`Orders`) and the job's log as standard output and error. It holds the job's lock until nothing
of the job is left. It imports little (no pydantic) so that it is there 30 ms after a bare interpreter would be.
"""

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

LOOK_SECONDS = 0.5
"""How often it looks for a request to stop that nobody signalled."""
LEFTOVER_SECONDS = 2.0
"""Longest time that what a job left behind has between SIGTERM and SIGKILL."""
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36  # Linux, <linux/prctl.h>
_FINAL = ("COMPLETED", "FAILED", "STOPPED")


@dataclass(frozen=True)
class Orders:
    """What to run and where to write how it ended; all paths are absolute."""

    command: list[str]
    """The arguments of the process that is the job."""
    status: str
    """The job's `status.json`."""
    failure: str
    """Where the reason of a failure goes."""
    stop: str
    """The request to stop: exists when there is one, and holds its grace in seconds as JSON."""
    grace: float
    """Seconds between SIGTERM and SIGKILL where the request does not say."""
    lock: int
    """Descriptor of the job's lock."""
    environment: dict[str, str]
    """Variables set for the process beside those of this one."""


Start = Callable[[Orders, Callable[[], None]], int]
"""Starts the job's process in a group of its own, where the function given is called first; gives its number."""


class Monitor:
    """One life: `run` starts the process, and returns when nothing of the job is left."""

    def __init__(self, orders: Orders, start: Start) -> None:
        self._orders = orders
        self._begin = start
        self._asked = False
        self._killed = False
        self._deadline = float("inf")
        self._grace = orders.grace
        self._exit_code: int | None = None
        self._awake = _wake_on_signals()

    def run(self) -> None:
        """Start, watch, settle, clear up."""
        try:
            self._pid = self._start()
        except OSError as error:
            said = f"could not start {self._orders.command[0]}: {error.strerror}"
            self._settle("FAILED", said, 1)
            return
        while not self._reap():
            self._heed(self._sleep(self._until()))
        try:
            self._settle(*self._verdict())
        finally:  # also where the disk is full or the job's folder is gone
            self._clear()

    def _start(self) -> int:
        monitor = os.getpid()
        prctl = _prctl()
        if prctl is not None:
            prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

        def tell_when_alone() -> None:
            if prctl is not None:
                prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
                # Its orphans become its children while it lives, then ours: it finds them where we are killed.
                prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
            if os.getppid() != monitor:
                os._exit(1)

        return self._begin(self._orders, tell_when_alone)

    def _until(self) -> float:
        return max(0.0, min(LOOK_SECONDS, self._deadline - time.monotonic()))

    def _sleep(self, seconds: float) -> bool:
        """Sleep until a signal comes or the time is over; says whether one was a request to stop."""
        if not select.select([self._awake], [], [], seconds)[0]:
            return False
        heard = os.read(self._awake, 4096)
        return signal.SIGTERM in heard or signal.SIGINT in heard

    def _heed(self, signalled: bool) -> None:
        """Pass a request to stop on, and kill when the grace is over."""
        if signalled or (not self._asked and Path(self._orders.stop).exists()):
            self._grace = _grace(self._orders)
            self._deadline = min(self._deadline, time.monotonic() + self._grace)
            if not self._asked:
                self._asked = True
                self._signal_all(signal.SIGTERM, everyone=False)
        if time.monotonic() >= self._deadline:
            self._killed = True
            self._signal_all(signal.SIGKILL, everyone=True)
            self._deadline = time.monotonic() + LOOK_SECONDS

    def _reap(self) -> bool:
        """Take note of children that have ended, orphans of the job among them; says whether the job's process has."""
        while True:
            try:
                pid, ended = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return True
            if pid == 0:
                return self._exit_code is not None
            if pid == self._pid:
                self._exit_code = os.waitstatus_to_exitcode(ended)

    def _verdict(self) -> tuple[str, str, int]:
        code = self._exit_code if self._exit_code is not None else 1
        if self._killed:
            return "STOPPED", f"it did not stop within {self._grace:g} s and was killed", code
        if self._asked or Path(self._orders.stop).exists():
            return "STOPPED", "stopped as asked", code
        if code < 0:
            return "FAILED", f"killed by signal {-code} ({_signal_name(-code)})", code
        return "FAILED", f"the process ended with exit code {code} and left no result; see log.txt", code

    def _settle(self, state: str, reason: str, exit_code: int) -> None:
        """Write the final status where the process has not done so itself."""
        path = Path(self._orders.status)
        status: dict[str, Any] = json.loads(path.read_bytes())
        if status["state"] in _FINAL:
            return
        _say(f"The job is {state}: {reason}.")
        failure = Path(self._orders.failure)
        if state == "FAILED" and (status["started"] is None or not failure.is_file()):  # its own words stay
            failure.parent.mkdir(exist_ok=True)
            _replace(failure, reason)
        status |= {"state": state, "reason": reason, "exit_code": exit_code, "ended": time.time()}
        _replace(path, json.dumps(status, indent=1) + "\n")

    def _clear(self) -> None:
        """End what the job left behind: SIGTERM, and SIGKILL when the grace is over, until nothing is left."""
        if not self._left():
            return
        _say("Ending processes that the job left behind.")
        self._signal_all(signal.SIGTERM, everyone=True)
        self._deadline = time.monotonic() + min(self._grace, LEFTOVER_SECONDS)
        while self._left():
            self._sleep(min(0.05, self._until()) if self._deadline > time.monotonic() else 0.05)
            if time.monotonic() >= self._deadline:
                self._signal_all(signal.SIGKILL, everyone=True)

    def _left(self) -> bool:
        """Whether anything of the job lives: on Linux its orphans become our children, elsewhere its group tells."""
        while True:
            try:
                if os.waitpid(-1, os.WNOHANG)[0] == 0:
                    return True
            except ChildProcessError:
                break
        try:
            os.killpg(self._pid, 0)
        except (ProcessLookupError, PermissionError):
            return False
        return True

    def _signal_all(self, number: signal.Signals, *, everyone: bool) -> None:
        """Signal the job's process group; `everyone` adds the descendants that have left it."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._pid, number)
        if everyone:
            import psutil

            for each in psutil.Process().children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    each.send_signal(number)


def _execute(orders: Orders, before: Callable[[], None]) -> int:
    """Start the job's process as a program."""
    process = subprocess.Popen(
        orders.command,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **orders.environment},
        pass_fds=(orders.lock,),
        process_group=0,
        preexec_fn=before,  # noqa: PLW1509 - this process has one thread
    )
    process.returncode = 0  # the monitor itself waits for it
    return process.pid


def _prctl() -> Any:
    return ctypes.CDLL(None, use_errno=True).prctl if sys.platform == "linux" else None


def _wake_on_signals() -> int:
    """Give a descriptor on which the number of every signal of interest can be read."""
    awake, write = os.pipe()
    os.set_blocking(write, False)
    os.set_blocking(awake, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)

    def note(_number: int, _frame: FrameType | None) -> None:
        """The number is in the pipe already; a handler of our own is reset in the child, where ignoring is not."""

    for each in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(each, note)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])  # who started this held signals back until they could be heard
    return awake


def _grace(orders: Orders) -> float:
    """The grace that the request to stop asks for; the usual one where it names none."""
    try:
        asked = json.loads(Path(orders.stop).read_bytes())
    except (OSError, ValueError):
        return orders.grace
    return max(0.0, float(asked)) if isinstance(asked, int | float) else orders.grace


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"


def _replace(path: Path, text: str) -> None:
    staged = path.with_name(f".{path.name}.{os.getpid()}")
    with staged.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    staged.replace(path)


def _say(sentence: str) -> None:
    sys.stderr.write(f"houndsight: {sentence}\n")
    sys.stderr.flush()


def main() -> None:
    """Read the orders and live by them; without orders whoever started this has died, and nothing was started."""
    given = sys.stdin.buffer.read()
    if given:
        Monitor(Orders(**json.loads(given)), _execute).run()


if __name__ == "__main__":
    main()
