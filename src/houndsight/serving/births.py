"""Where a supervisor's instances come from: forked by its nursery, which is replaced when it is lost."""

import asyncio
import logging
import socket
from collections.abc import Sequence

import psutil

from houndsight.backends import process
from houndsight.errors import JobError
from houndsight.serving.child import Child
from houndsight.serving.nursery import Nursery

log = logging.getLogger("houndsight")


class Births:
    """Starts instances of one endpoint; instances outlive the nursery that bore them."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._nursery: Nursery | None = None
        self._starting = asyncio.Lock()
        self._codes: dict[int, asyncio.Future[int]] = {}

    async def warm(self) -> Nursery:
        """Have a nursery; it imports meanwhile what instances need."""
        async with self._starting:
            if self._nursery is None:
                self._nursery = await Nursery.start(self._name)
                self._nursery.ended = self._ended
            return self._nursery

    async def child(self, arguments: Sequence[str], descriptors: Sequence[int]) -> Child:
        """A new instance with those arguments and descriptors; raises `JobError` where a fresh nursery fails, too."""
        for last in (False, True):
            nursery = await self.warm()
            ours, theirs = socket.socketpair()
            with theirs:
                words = [*arguments, "--link", str(theirs.fileno())]
                try:
                    pid = await nursery.fork(words, [*descriptors, theirs.fileno()])
                except JobError as error:
                    ours.close()
                    if self._nursery is nursery:
                        self.close()
                    if last:
                        raise
                    log.warning("%s Another one is started.", error.message)
                    continue
                except BaseException:
                    ours.close()
                    raise
            return Child(pid, ours, self._code(pid))
        raise AssertionError("the second try has returned or raised")

    def processes(self) -> tuple[tuple[int, float], ...]:
        """Process id and start time of the nursery, while there is one."""
        if self._nursery is None:
            return ()
        try:
            return ((self._nursery.pid, process.started(self._nursery.pid)),)
        except psutil.NoSuchProcess:
            return ()

    def close(self) -> None:
        """Let the nursery go; its instances stay."""
        if self._nursery is not None:
            self._nursery.close()
            self._nursery = None

    def _code(self, pid: int) -> "asyncio.Future[int]":
        """The exit code of an instance, once the nursery has told it."""
        if pid not in self._codes:
            self._codes[pid] = asyncio.get_running_loop().create_future()
            self._codes[pid].add_done_callback(lambda _: self._codes.pop(pid, None))
        return self._codes[pid]

    def _ended(self, pid: int, code: int) -> None:
        future = self._code(pid)
        if not future.done():
            future.set_result(code)
