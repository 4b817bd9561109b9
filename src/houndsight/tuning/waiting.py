"""Waiting for any of several jobs without looking at them: the kernel tells when a process ends."""

import os
import select
import sys
import time
from dataclasses import dataclass, field

from houndsight.backends import process
from houndsight.folders import JobFolder


@dataclass
class Seen:
    """What was last seen of a job's files, so that only changed ones are read."""

    since: float = field(default_factory=time.monotonic)
    marks: dict[str, tuple[int, int]] = field(default_factory=dict)

    def changed(self, job: JobFolder, *names: str) -> bool:
        """Whether one of these files of the job is another than at the last call."""
        found = False
        for name in names:
            try:
                about = (job.path / name).stat()
                mark = (about.st_mtime_ns, about.st_ino)
            except FileNotFoundError:
                mark = (0, 0)
            found = found or self.marks.get(name) != mark
            self.marks[name] = mark
        return found


class Processes:
    """The processes that run the jobs, each as a descriptor that becomes readable when it ends."""

    def __init__(self) -> None:
        self._files: dict[int, int] = {}
        self._ended: set[int] = set()

    def ended(self, pid: int) -> bool:
        """Whether that process is no more; costs nothing while it is waited for."""
        if pid in self._files:
            return False
        return pid in self._ended or not process.alive(pid, None)

    def keep(self, pids: set[int]) -> None:
        """Wait for these processes from now on, and for no others."""
        for pid in set(self._files) - pids:
            os.close(self._files.pop(pid))
        self._ended &= pids
        if sys.platform != "linux":
            return
        for pid in pids - set(self._files) - self._ended:
            try:
                self._files[pid] = os.pidfd_open(pid)
            except ProcessLookupError:
                self._ended.add(pid)
            except OSError:
                return  # this kernel keeps the call to itself: `ended` asks instead

    def wait(self, seconds: float) -> None:
        """Return when one of them has ended, or after so many seconds."""
        poll = select.poll()
        for file in self._files.values():
            poll.register(file, select.POLLIN)
        for file, _ in poll.poll(1000 * seconds):
            pid = next(pid for pid, each in self._files.items() if each == file)
            os.close(self._files.pop(pid))
            self._ended.add(pid)

    def close(self) -> None:
        """Let go of all of them."""
        self.keep(set())
