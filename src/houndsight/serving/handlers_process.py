"""The process that runs a script's handlers, as its instance sees it: started, asked, watched, ended."""

import asyncio
import json
import logging
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from typing import Any

import psutil

from houndsight.backends import private, process
from houndsight.errors import JobError
from houndsight.folders import drop_in
from houndsight.serving.handlers_worker import FRAME
from houndsight.serving.prepared import cores
from houndsight.serving.settings import InstanceSettings

log = logging.getLogger("houndsight")

DUMP_SECONDS = 0.3
"""How long a process that hangs may take to write down where it stands."""
REST_SECONDS = 0.2
"""How long the last words of a process that has ended may take to arrive."""
END_SECONDS = 2.0
"""How long an idle process may take to end."""
FREE_SHARE = 4
"""The process may hold, beyond what it held once its model was loaded, one part in so many of what was free."""
LEAST_ROOM = 2**30
"""Bytes that it may hold beyond that in any case."""


class GoneError(Exception):
    """The process ended; the text says how."""


class Worker:
    """One process of handlers and the socket to it; lives in one event loop."""

    def __init__(
        self, started: "subprocess.Popen[bytes]", reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.process, self._reader, self._writer = started, reader, writer
        self.own: list[str] = []
        """Functions that the script defines."""
        self._allowed = 0
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._descriptor = self._watch()

    @classmethod
    async def start(cls, settings: InstanceSettings) -> "Worker":
        """Start the process; `loaded` says what came of it. Raises `JobError` where none can be started."""
        assert settings.handlers is not None
        ours, theirs = socket.socketpair()
        command = [
            *(private.prefix(settings.model.absolute().parent) if settings.private else ()),
            *(str(settings.python or sys.executable), "-P", "-m", "houndsight.serving.handlers_worker"),
            *("--socket", str(theirs.fileno()), "--model", str(settings.model), "--program", settings.handlers.name),
        ]
        with theirs:
            try:
                started = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, pass_fds=(theirs.fileno(),), env=environment(settings)
                )
            except OSError as error:
                ours.close()
                raise JobError(
                    f"No process could be started for the handlers: {command[0]}: {error.strerror}.",
                    "Deploy the model again.",
                ) from error
        reader, writer = await asyncio.open_connection(sock=ours)
        return cls(started, reader, writer)

    async def loaded(self) -> str:
        """Wait for the model; returns why it cannot be loaded, or nothing where it is."""
        try:
            said, _ = await self._heard()
        except GoneError as error:
            return f"The model cannot be loaded: the handlers' process ended meanwhile, {error}."
        self.own = said["own"]
        self._allowed = self.memory + max(LEAST_ROOM, psutil.virtual_memory().available // FREE_SHARE)
        return f"The model cannot be loaded: {said['problem']}" if said["problem"] else ""

    async def ask(self, head: dict[str, Any], body: bytes) -> tuple[dict[str, Any], bytes]:
        """Pass one request on and return head and body of the answer; raises `GoneError`."""
        document = json.dumps(head).encode()
        with suppress(OSError):
            self._writer.writelines([FRAME.pack(len(document), len(body)), document, body])
            await self._writer.drain()
        return await self._heard()

    async def _heard(self) -> tuple[dict[str, Any], bytes]:
        """One frame; a grandchild may hold the socket open, so that the end of the process is watched as well."""
        reading = asyncio.ensure_future(self._frame())
        try:
            waited: set[asyncio.Future[Any]] = {reading, self._ended}
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            if not reading.done():
                await asyncio.wait({reading}, timeout=REST_SECONDS)
            if reading.done() and reading.exception() is None:
                return reading.result()
        finally:
            reading.cancel()
        with suppress(subprocess.TimeoutExpired):
            code = await asyncio.to_thread(self.process.wait, END_SECONDS)
            raise GoneError(_ended(code))
        await self.kill()
        raise GoneError("it closed its line")

    async def _frame(self) -> tuple[dict[str, Any], bytes]:
        head, body = FRAME.unpack(await self._reader.readexactly(FRAME.size))
        return json.loads(await self._reader.readexactly(head)), await self._reader.readexactly(body)

    @property
    def memory(self) -> int:
        """Bytes that it holds, its children not counted."""
        try:
            return int(psutil.Process(self.process.pid).memory_info().rss)
        except psutil.Error:
            return 0

    @property
    def heavy(self) -> bool:
        """Whether it holds more memory than it may: what it held at first, and a quarter of what was free then."""
        return self.memory > self._allowed

    def close(self) -> None:
        """Let it end and wait for that; nobody listens to what it is doing any more."""
        self._unwatch()
        self._writer.close()
        self._reap()

    async def end(self) -> None:
        """The same without holding up the event loop."""
        self._unwatch()
        self._writer.close()
        await asyncio.to_thread(self._reap)

    def _reap(self) -> None:
        try:
            self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill_tree(self.process.pid, None)
            self.process.wait()

    async def kill(self) -> None:
        """End it, and whatever it started, without asking; where it stood is in the log."""
        log.error("The handlers' process hangs. It stands here:")
        with suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGUSR1)
        await asyncio.sleep(DUMP_SECONDS)
        process.kill_tree(self.process.pid, None)
        await self.end()

    def _watch(self) -> int:
        """Learn of its end by a descriptor of the process, where the system has them (Linux 5.3)."""
        try:
            descriptor = os.pidfd_open(self.process.pid)
        except (AttributeError, OSError):
            return -1
        asyncio.get_running_loop().add_reader(descriptor, self._unwatch)
        return descriptor

    def _unwatch(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)
        if self._descriptor >= 0:
            asyncio.get_running_loop().remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1


def _ended(code: int) -> str:
    if code < 0:
        with suppress(ValueError):
            return f"killed by {signal.Signals(-code).name}"
    return f"with exit code {code}"


def environment(settings: InstanceSettings) -> dict[str, str]:
    """What the script finds in its environment: the instance's own, and what Amazon's container sets beside it."""
    assert settings.handlers is not None
    model = settings.model.absolute()
    code = model / "code"
    start = drop_in().with_name("start")
    paths = [str(start), str(code), str(drop_in()), *filter(None, [os.environ.get("PYTHONPATH")])]
    own = {
        "SM_MODEL_DIR": str(model),
        "SAGEMAKER_BASE_DIR": str(model.parent),
        "SAGEMAKER_PROGRAM": settings.handlers.name,
        "SAGEMAKER_SUBMIT_DIRECTORY": str(code),
        "SAGEMAKER_CONTAINER_LOG_LEVEL": "20",
        "SAGEMAKER_REGION": os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1",
        "PYTHONPATH": os.pathsep.join(paths),
        "OMP_NUM_THREADS": str(settings.threads or cores()),  # the instance's own is 1
        "OPENBLAS_NUM_THREADS": str(settings.threads or cores()),
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOUNDSIGHT_HUB": "1",
        **settings.variables,
    }
    left_out = ("PROMETHEUS_MULTIPROC_DIR", "HOUNDSIGHT_API_KEY", "HOUNDSIGHT_HOOK")
    return {name: value for name, value in os.environ.items() if name not in left_out} | own
