"""The instance's end of the line to its supervisor: JSON lines over an inherited socket, from the first to the last.

    instance -> supervisor    {"event": "ready"}   {"event": "failed", "error": {kind, message, repair}}
                              {"event": "beat", "requests": 12, "errors": 0, ...} every `BEAT_SECONDS`
    supervisor -> instance    {"do": "routes", ...}, see `routes`

The end of the line is the end of the supervisor: the instance finishes what it has accepted, and goes.
"""

import asyncio
import json
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from houndsight.errors import HoundsightError

BEAT_SECONDS = 0.5
"""How often an instance says that its event loop turns."""
BLOCK_BYTES = 65536


class Link:
    """The line of one instance; made from the descriptor that it was born with."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._socket.set_inheritable(False)
        self._rest, self._unsent = b"", b""
        self._beating: asyncio.TimerHandle | None = None

    def ready(self, problem: str = "") -> None:
        """Say that the model is loaded and warm, or `problem`: why a script's model is not, and every answer is 500."""
        self._tell({"event": "ready", "problem": problem})

    def failed(self, error: HoundsightError) -> None:
        """Say why this instance cannot serve; it ends after that."""
        self._tell({"event": "failed", "error": error.document()})

    def keep(
        self,
        *,
        beat: Callable[[], dict[str, Any]],
        order: Callable[[dict[str, Any]], None],
        gone: Callable[[], None],
    ) -> None:
        """In the running event loop: tell `beat()` regularly, pass on orders, call `gone` once the supervisor is gone.

        What waits in the line already is passed on before this returns.
        """
        loop = asyncio.get_running_loop()
        self._socket.setblocking(False)

        def hear() -> None:
            while True:
                try:
                    block = self._socket.recv(BLOCK_BYTES)
                except BlockingIOError:
                    return
                except OSError:
                    block = b""
                if not block:
                    self.close()
                    gone()
                    return
                *lines, self._rest = (self._rest + block).split(b"\n")
                for line in lines:
                    order(json.loads(line))

        def tick() -> None:
            self._tell({"event": "beat", **beat()})
            self._beating = loop.call_later(BEAT_SECONDS, tick)

        loop.add_reader(self._socket, hear)
        tick()
        hear()

    def close(self) -> None:
        """Let go of the line; safe to call twice."""
        if self._beating is not None:
            self._beating.cancel()
            self._beating = None
        if self._socket.fileno() >= 0:
            with suppress(RuntimeError):  # no loop runs, so nothing listens
                asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()

    def _tell(self, event: dict[str, Any]) -> None:
        """A line is far smaller than the socket's buffer; one that finds it full is a beat that nobody waits for."""
        line = self._unsent or json.dumps(event).encode() + b"\n"
        with suppress(OSError):
            self._unsent = line[self._socket.send(line) :]
