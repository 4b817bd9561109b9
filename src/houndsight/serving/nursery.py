"""A process that has imported everything once and forks instances: they start in a second and share its memory.

    python -m houndsight.serving.nursery --name NAME --socket FD

Importing torch, of which the resize is wanted, takes 3 s and 315 MB that are not shared when each instance does it.
The supervisor asks over the socket, descriptors travel with the request:

    supervisor -> nursery    {"arguments": [...], "descriptors": [7, 9]}     one line; 7 and 9 as the arguments say
    nursery -> supervisor    {"event": "warm"}, then {"pid": 123} for each request, {"ended": 123, "code": 0} at the end
"""

import argparse
import asyncio
import contextlib
import fcntl
import gc
import importlib
import json
import logging
import os
import selectors
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from houndsight.errors import JobError

log = logging.getLogger("houndsight")

_MOST = 32  # descriptors of one request
_ABOVE = 512  # descriptors are parked above this number while they are put in their places
_BLOCK = 65536


# ------------------------------------------------------------------------------ the supervisor's side


class Nursery:
    """The supervisor's end; made by `start`, in its event loop."""

    def __init__(self, started: asyncio.subprocess.Process, line: socket.socket) -> None:
        self._process, self._line = started, line
        self._warm: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting: deque[asyncio.Future[int]] = deque()
        self._hearing = asyncio.create_task(self._hear())
        self._warm.add_done_callback(lambda future: future.cancelled() or future.exception())
        self.ended: Callable[[int, int], None] = lambda _pid, _code: None
        """Called with the process id and the exit code of each instance that ends (negative for a signal)."""

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    @classmethod
    async def start(cls, name: str) -> "Nursery":
        """Start one for the endpoint `name`; it warms itself meanwhile. Raises `JobError`."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                started = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-P", "-m", "houndsight.serving.nursery"),
                    *("--name", name, "--socket", str(theirs.fileno())),
                    stdin=asyncio.subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(),),
                    env={**os.environ, "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
                )
            except OSError as error:
                ours.close()
                raise JobError(f"No process could be started: {error.strerror}.") from error
        ours.setblocking(False)
        return cls(started, ours)

    async def fork(self, arguments: Sequence[str], descriptors: Sequence[int]) -> int:
        """Process id of a new instance; `arguments` are those of `houndsight.serving.instance`.

        It inherits the `descriptors` under their own numbers. Raises `JobError` where the nursery is gone.
        """
        await self._warm
        born: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        text = json.dumps({"arguments": list(arguments), "descriptors": list(descriptors)}).encode() + b"\n"
        try:
            socket.send_fds(self._line, [text], list(descriptors))
        except OSError as error:
            raise JobError(f"The nursery cannot be reached: {error.strerror}.") from error
        self._waiting.append(born)
        return await born

    def close(self) -> None:
        """Let it go; its instances stay."""
        self._hearing.cancel()
        self._line.close()
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()

    async def _hear(self) -> None:
        loop, rest = asyncio.get_running_loop(), b""
        try:
            while block := await loop.sock_recv(self._line, _BLOCK):
                *lines, rest = (rest + block).split(b"\n")
                for line in lines:
                    self._note(json.loads(line))
        except OSError:
            log.info("The nursery was lost.")
        gone = JobError("The nursery is gone.")
        if not self._warm.done():
            self._warm.set_exception(gone)
        for born in self._waiting:
            if not born.done():
                born.set_exception(gone)

    def _note(self, said: dict[str, Any]) -> None:
        if "pid" in said and self._waiting:
            born = self._waiting.popleft()
            if not born.done():
                born.set_result(said["pid"])
        elif "ended" in said:
            self.ended(said["ended"], said["code"])
        elif said.get("event") == "warm" and not self._warm.done():
            self._warm.set_result(None)


# --------------------------------------------------------------------------------- the nursery's side


def main() -> None:
    """Import, say so, and fork until the socket closes."""
    parser = argparse.ArgumentParser(description="Forks the instances of an endpoint.")
    parser.add_argument("--name", required=True)
    parser.add_argument("--socket", type=int, required=True)
    asked = parser.parse_args()
    line = socket.socket(fileno=asked.socket)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    preload()
    gc.collect()
    gc.freeze()  # so that no collection in an instance writes to the pages it shares
    _serve(line)


PRELOADED = ("houndsight.serving.instance", "houndsight.serving.server", "houndsight.serving.service",
             "houndsight.serving.capture", "PIL.Image")  # fmt: skip
"""What instances import; not prometheus_client, which looks for its folder when it is imported."""


def preload() -> None:
    """Import what an instance needs, and run torch's resize once; one thread, or a fork would lose the others."""
    import numpy as np
    import torch

    from houndsight.data import images
    from houndsight.models.private import openvino
    from houndsight.spec import Preprocess

    torch.set_num_threads(1)
    openvino()
    for name in PRELOADED:
        importlib.import_module(name)
    images.fit_to(np.zeros((300, 280, 3), np.uint8), Preprocess())


def _serve(line: socket.socket) -> None:
    """One request after the other; children that end are told of as they do."""
    wake, woken = socket.socketpair()
    for each in (wake, woken):
        each.setblocking(False)
    signal.set_wakeup_fd(woken.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    line.sendall(b'{"event": "warm"}\n')
    with selectors.DefaultSelector() as selector:
        selector.register(line, selectors.EVENT_READ)
        selector.register(wake, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is wake:
                    with contextlib.suppress(BlockingIOError):
                        wake.recv(_BLOCK)
                    _reap(line)
                    continue
                text, descriptors, _, _ = socket.recv_fds(line, _BLOCK, _MOST)
                if not text:
                    return
                _bear(line, json.loads(text), descriptors)


def _bear(line: socket.socket, request: dict[str, Any], descriptors: list[int]) -> None:
    pid = os.fork()
    if pid == 0:
        _live(request["arguments"], dict(zip(request["descriptors"], descriptors, strict=True)))
    for descriptor in descriptors:
        os.close(descriptor)
    line.sendall(json.dumps({"pid": pid}).encode() + b"\n")


def _live(arguments: list[str], places: dict[int, int]) -> NoReturn:
    """Become an instance: nothing of the nursery is left but its memory."""
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        parked = {wanted: fcntl.fcntl(found, fcntl.F_DUPFD, _ABOVE) for wanted, found in places.items()}
        os.closerange(3, _ABOVE)
        for wanted, found in parked.items():
            os.dup2(found, wanted)
            os.close(found)
        from houndsight.serving import instance

        code = instance.main(arguments)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        log.exception("An instance failed at its birth.")
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)


def _reap(line: socket.socket) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        said = {"ended": pid, "code": os.waitstatus_to_exitcode(status)}
        with contextlib.suppress(OSError):
            line.sendall(json.dumps(said).encode() + b"\n")


if __name__ == "__main__":
    main()
