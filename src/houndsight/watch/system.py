"""The sampler: a light process beside a training that writes down what the machine did, a line every half second.

    python -m houndsight.watch.system FILE INTERVAL PID THREAD

It ends with the process that started it, or when its standard input says so or closes. Counters are written as the
kernel counts them, from the start of the machine or process on, and turned into rates by `records.machine`: a sample
that came late or is missing then blurs, and is never wrong. Without numpy, torch or pydantic: it starts in 40 ms.
"""

import json
import os
import select
import socket
import sys
import time
from pathlib import Path
from typing import Any

FORMAT_VERSION = 1
SHORTEST, LONGEST = 0.1, 60.0
"""Bounds of the interval in seconds."""
MOST_BYTES = 16 << 20
"""The interval doubles each time the file has grown by so much: a run of days stays readable."""
PSS_SECONDS = 10.0
"""The proportional set size is read this rarely: the kernel walks all pages for it and stalls the process meanwhile."""


def main(words: list[str]) -> None:
    """Sample until told to stop; see the file's docstring."""
    path, interval, pid, thread = words[0], float(words[1]), int(words[2]), int(words[3])
    source = _source(pid, thread)
    parent = os.getppid()
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    grown = os.fstat(file).st_size
    _write(file, (b"\n" if grown else b"") + _line({"format": FORMAT_VERSION, **source.facts(), "interval": interval}))
    due = time.monotonic()
    ended = False
    while not ended:
        sample = source.sample()
        if sample is None:
            return  # the training is gone
        grown += _write(file, _line(sample))
        if grown > MOST_BYTES:
            grown, interval = 0, min(LONGEST, 2 * interval)
        due = max(due + interval, time.monotonic())
        ended = _told_to_end(due) or os.getppid() != parent
    last = source.sample()
    if last is not None:
        _write(file, _line(last))


def _told_to_end(due: float) -> bool:
    """Wait until `due`; whether standard input said something or closed before."""
    ready, _, _ = select.select([0], [], [], max(0.0, due - time.monotonic()))
    return bool(ready)


def _write(file: int, line: bytes) -> int:
    """One write a line: a reader sees whole lines, and at worst a torn last one."""
    return os.write(file, line)


def _line(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"


def _source(pid: int, thread: int) -> "Source":
    if Path("/proc/self/schedstat").exists():
        from houndsight.watch.linux import Linux

        return Source(Linux(pid, thread))
    from houndsight.watch.portable import Portable

    return Source(Portable(pid))


class Source:
    """Where samples come from: the kernel of this machine and, where there are any, its GPUs."""

    def __init__(self, kernel: Any) -> None:
        from houndsight.watch.gpus import Gpus

        self._kernel, self._gpus = kernel, Gpus.found()

    def facts(self) -> dict[str, Any]:
        """What does not change while it runs."""
        return {
            "time": time.time(),
            "host": socket.gethostname(),
            **self._kernel.facts(),
            "gpus": self._gpus.facts() if self._gpus else [],
        }

    def sample(self) -> dict[str, Any] | None:
        """One sample, or None where the training has ended."""
        found: dict[str, Any] | None = self._kernel.sample()
        if found is not None:
            found["own"] = round(time.process_time(), 4)
            if self._gpus:
                found["gpu"] = self._gpus.sample()
        return found


if __name__ == "__main__":
    main(sys.argv[1:])
