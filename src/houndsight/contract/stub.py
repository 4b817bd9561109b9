"""The script of a job whose worker is a fork of a warm process: a process that waited beside it; used by `life`."""

import json
import os
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from houndsight.backends import pool
from houndsight.backends.process import await_end

VARIABLE = "HOUNDSIGHT_STUB"
"""Environment variable of the worker: descriptor of the line to the waiting process, colon, its number."""


class Forked:
    """A child that was forked, with as much of `subprocess.Popen` as the life of a script needs."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Exit code, negative for a signal; None while it runs."""
        if self.returncode is None:
            pid, ended = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(ended)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Exit code when it has ended; raises `subprocess.TimeoutExpired` where that takes longer."""
        until = None if timeout is None else time.monotonic() + timeout
        while self.poll() is None:
            left = None if until is None else until - time.monotonic()
            if left is not None and left <= 0:
                raise subprocess.TimeoutExpired("the script", timeout or 0.0)
            await_end(self.pid, left)
        assert self.returncode is not None
        return self.returncode


def start(command: Sequence[str], folder: Path, environment: Mapping[str, str], output: int) -> Forked | None:
    """Let the waiting process become the script, in a group of its own and with `output` as both its streams.

    None where none waits, or where it would not find what it finds in a process of its own.
    """
    given = os.environ.pop(VARIABLE, "")
    if not given:
        return None
    file, _, pid = given.partition(":")
    forked = Forked(int(pid))
    with socket.socket(fileno=int(file)) as line:
        pool.send(line, json.dumps([list(command), str(folder), dict(environment)]).encode(), [output])
        if line.recv(1) == b"y":
            return forked
    forked.wait()
    return None
