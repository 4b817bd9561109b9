"""One instance as its supervisor sees it: a process, and the line on which it says how it fares."""

import asyncio
import contextlib
import json
import logging
import signal
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import psutil

from houndsight.backends import process
from houndsight.errors import JobError, from_document
from houndsight.serving.metrics import usage

log = logging.getLogger("houndsight")

LINE_BYTES = 1 << 20
TOLD_SECONDS = 1.0
"""How long its exit code may take after its line has broken."""
REAP_SECONDS = 5.0
"""How long the kernel may take to end a process whose line has broken before it is killed again."""


class Child:
    """A running instance. `ready` and `ended` are futures of the event loop that started it."""

    def __init__(self, pid: int, line: socket.socket, code: "asyncio.Future[int]") -> None:
        """`code` is the exit code once it is known; it may stay unknown where somebody else was the parent."""
        loop = asyncio.get_running_loop()
        self.pid = pid
        self.pid_started = _since(pid)
        self.ready: asyncio.Future[dict[str, Any]] = loop.create_future()
        """What it said when it was warm; the error where it cannot serve, or ended first."""
        self.ended: asyncio.Future[str] = loop.create_future()
        """Why it ended, in words."""
        self.beat: dict[str, Any] = {}
        """What it last said of itself."""
        self.beaten = loop.time()
        """When that was, on the loop's clock."""
        self._line = line
        self._code = code
        self._hearing = asyncio.create_task(self._hear())
        self.ready.add_done_callback(lambda future: future.cancelled() or future.exception())

    @classmethod
    async def start(cls, command: Sequence[str], descriptors: Sequence[int], environment: dict[str, str]) -> "Child":
        """Start `command --link FD`; it inherits the `descriptors`, standard output and error."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                started = await asyncio.create_subprocess_exec(
                    *command,
                    "--link",
                    str(theirs.fileno()),
                    stdin=asyncio.subprocess.DEVNULL,
                    pass_fds=(*descriptors, theirs.fileno()),
                    env=environment,
                )
            except OSError as error:
                ours.close()
                raise JobError(f"No process could be started: {error.strerror}.") from error
        return cls(started.pid, ours, asyncio.ensure_future(started.wait()))

    @property
    def problem(self) -> str:
        """Why it answers every request with 500, where it does; see `serving.handlers`."""
        return str(self.beat.get("problem", ""))

    def tell(self, order: dict[str, Any]) -> None:
        """Send one order; an instance that is gone or deaf needs none, its end is noticed elsewhere."""
        with suppress(OSError):
            self._line.send(json.dumps(order).encode() + b"\n", socket.MSG_DONTWAIT)

    def terminate(self) -> None:
        """Ask it to stop accepting, finish its queue, and exit."""
        if not self.ended.done():
            process.signal_process(self.pid, None, signal.SIGTERM)

    def kill(self) -> None:
        """End it without asking, and whatever it started."""
        if not self.ended.done():  # so its number is still its own; its start time would follow a jump of the clock
            process.kill_tree(self.pid, None)

    async def stop(self, grace: float) -> None:
        """Ask it to finish, kill it after `grace` seconds, and return when it is gone."""
        self.terminate()
        done, _ = await asyncio.wait({self.ended}, timeout=grace)
        if not done:
            self.kill()
            await asyncio.wait({self.ended}, timeout=REAP_SECONDS)

    async def _hear(self) -> None:
        try:
            reader, writer = await asyncio.open_connection(sock=self._line, limit=LINE_BYTES)
            with contextlib.closing(writer), suppress(ConnectionError):
                async for line in reader:
                    self._note(json.loads(line))
        finally:
            await self._end()

    def _note(self, said: dict[str, Any]) -> None:
        self.beaten = asyncio.get_running_loop().time()
        match said.get("event"):
            case "ready" if not self.ready.done():
                self.beat = said
                self.ready.set_result(said)
            case "failed" if not self.ready.done():
                self.ready.set_exception(from_document(said["error"]))
            case "beat":
                self.beat = said

    async def _end(self) -> None:
        """The line is the process: one without the other is ended here."""
        await asyncio.wait({self._code}, timeout=TOLD_SECONDS)
        if not self._code.done() and not await asyncio.to_thread(process.await_end, self.pid, REAP_SECONDS):
            self.kill()
            await asyncio.to_thread(process.await_end, self.pid, REAP_SECONDS)
        code = self._code.result() if self._code.done() else None
        reason = _ended(code)
        if not self.ready.done():
            self.ready.set_exception(JobError(f"An instance ended before it was ready: {reason}."))
        if not self.ended.done():
            self.ended.set_result(reason)


def _ended(code: int | None) -> str:
    if code is None:
        return "it ended"
    if code < 0:
        with suppress(ValueError):
            return f"it was killed by {signal.Signals(-code).name}"
    return f"it exited with code {code}"


def _since(pid: int) -> float | None:
    try:
        return process.started(pid)
    except psutil.NoSuchProcess:
        return None


def load(children: Sequence[Child]) -> list[dict[str, Any]]:
    """Memory (bytes) and processor time (s) of each child that lives, beside what it last said."""
    rows = []
    for child in children:
        row: dict[str, Any] = {"pid": child.pid, **{key: value for key, value in child.beat.items() if key != "event"}}
        used = usage(child.pid)
        if used is not None:
            row |= {"memory_bytes": used[1], "cpu_seconds": round(used[0], 3)}
        rows.append(row)
    return rows
