"""The life of an instance's server: open, serve, drain, end; with the time limits that uvicorn's protocol lacks.

uvicorn parses and answers; here are the deadlines for slow and half-sent requests, the bound on headers, and the way
out: stop accepting, finish, tell every kept connection to close, go.
"""

import asyncio
import logging
import signal
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from email.utils import formatdate
from functools import partial
from typing import Any

from starlette.applications import Starlette
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from houndsight.serving.accept import Acceptor, Board
from houndsight.serving.app import App, instance_headers
from houndsight.serving.settings import Limits

log = logging.getLogger("houndsight")

HEAD_BYTES = 64 * 1024
"""Request line and headers together; more is answered 431."""
TICK_SECONDS = 0.5
LINGER_SECONDS = 2.0
"""How long a connection without a request is kept while draining: a caller may just be sending on it."""
_CUT = {408: b"Request Timeout", 431: b"Request Header Fields Too Large"}


class Connection(HttpToolsProtocol):
    """One caller; `server` keeps its time."""

    def __init__(self, server: "Server", private: bool) -> None:
        super().__init__(server.config, server.state, {"private": private}, server.loop)
        self._server = server
        self._head = 0
        self._reading_head = True
        self.since = time.monotonic()
        """When the request that is being read began; 0 while there is none, or it is whole."""
        self.idle_since = self.since
        self.received = False

    def connection_lost(self, exc: Exception | None) -> None:
        """Let whoever computes for this caller know that nobody waits."""
        super().connection_lost(exc)
        if self.cycle is not None and not self.cycle.response_complete:
            self.scope["gone"] = True  # type: ignore[typeddict-unknown-key]
            for cycle, _ in self.pipeline:
                cycle.scope["gone"] = True  # type: ignore[typeddict-unknown-key]
        self._server.left(self)

    def data_received(self, data: bytes) -> None:
        """Read on; the clock runs from a request's first byte to its last."""
        self.received = True
        if not self.since and self._reading_head:
            self.since = time.monotonic()
        if self._reading_head:
            self._head += len(data)
        super().data_received(data)
        if self._reading_head and self._head > HEAD_BYTES:
            self.cut(431)

    def on_headers_complete(self) -> None:
        """The head is whole, the body may follow."""
        self._reading_head, self._head = False, 0
        super().on_headers_complete()
        self._server.began()

    def on_message_complete(self) -> None:
        """The request is whole."""
        self._reading_head = True
        self.since = 0.0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """One answer is out."""
        self._server.ended()
        self.idle_since = time.monotonic()
        super().on_response_complete()

    @property
    def idle(self) -> bool:
        """Whether neither a request is being read nor one answered."""
        answered = self.cycle is None or self.cycle.response_complete
        return answered and (not self.since or not self.received)

    def cut(self, status: int) -> None:
        """Say why, where nothing was answered yet, and close."""
        if self.transport.is_closing():
            return
        if self.received and (self.cycle is None or not self.cycle.response_started):
            text = b"HTTP/1.1 %d %b\r\ncontent-length: 0\r\nconnection: close\r\n\r\n" % (status, _CUT[status])
            self.transport.write(text)
        self.transport.close()

    def overdue(self, now: float, limits: Limits) -> None:
        """Cut the connection where its request, or its reading of an answer, takes too long."""
        if self.since and now - self.since > limits.read_seconds:
            self.cut(408)
        elif self.flow.write_paused and now - self.idle_since > limits.read_seconds + limits.answer_seconds:
            self.transport.abort()


class Server:
    """Everything between the listening sockets and the app; lives in one event loop."""

    def __init__(self, starlette: Starlette, limits: Limits, board: Board) -> None:
        self.loop = asyncio.get_running_loop()
        self.app: App = starlette.state.app
        self.limits, self.board = limits, board
        self.config = Config(
            starlette, http="httptools", ws="none", lifespan="off", log_config=None, access_log=False,
            server_header=False, date_header=False, timeout_keep_alive=limits.idle_seconds,  # type: ignore[arg-type]
        )  # fmt: skip
        for name in ("uvicorn.error", "python_multipart"):  # a line for each malformed request otherwise
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self.config.load()
        self.state = ServerState()
        self._draining = asyncio.Event()
        self._empty = asyncio.Event()
        self._acceptors: list[Acceptor] = []
        self._active = 0

    async def run(self, sockets: Sequence[tuple[socket.socket, bool]], ready: Callable[[], None]) -> None:
        """Serve on `sockets` (each with whether it is private) until drained; `ready` is called once it listens."""
        for number in (signal.SIGTERM, signal.SIGINT):
            with suppress(NotImplementedError, ValueError, RuntimeError):  # not the main thread, as in a test
                self.loop.add_signal_handler(number, self._asked_to_end)
        ticking = self.loop.create_task(self._tick())
        self.board.accepting = 1
        for listener, private in sockets:
            self._acceptors.append(
                Acceptor(listener, self.board, self.limits.connections, partial(self._made, private), fair=not private)
            )
        ready()
        await self._draining.wait()
        try:
            async with asyncio.timeout(self.limits.drain_seconds):
                await self._finished()
        except TimeoutError:
            log.warning("%d requests were not finished in time.", self._active)
        finally:
            ticking.cancel()
            self.board.clear()

    def drain(self) -> None:
        """Stop accepting; `run` returns when what was accepted is answered."""
        if self._draining.is_set():
            return
        log.info("Draining: %d connections, %d requests in progress.", len(self.state.connections), self._active)
        self.app.draining = True
        self.board.accepting = 0
        self.board.write()
        for acceptor in self._acceptors:
            acceptor.close()
        self._headers()
        self._draining.set()

    def began(self) -> None:
        """A request's head is whole."""
        self._active += 1
        self.board.active = self._active
        self.board.write()

    def ended(self) -> None:
        """A request is answered."""
        self._active -= 1
        board, metrics = self.board, self.app.metrics
        board.active, board.requests, board.errors = self._active, metrics.requests, metrics.errors
        board.waiting = self.app.service.waiting
        board.write()

    def left(self, connection: Connection) -> None:
        """A connection is closed."""
        if connection.cycle is not None and not connection.cycle.response_complete:
            self._active -= 1 + len(connection.pipeline)
            self.board.active = self._active
        self.board.connections -= 1
        self.board.write()
        if self._draining.is_set() and not self.state.connections:
            self._empty.set()

    def beat(self) -> dict[str, Any]:
        """How this instance fares, for its supervisor."""
        service, metrics = self.app.service, self.app.metrics
        return {
            "requests": metrics.requests,
            "errors": metrics.errors,
            "active": self._active,
            "connections": len(self.state.connections),
            "waiting": service.waiting,
            "computing": round(service.longest, 3),
            "problem": service.problem,
        }

    def _made(self, private: bool) -> Connection:
        return Connection(self, private)

    def _asked_to_end(self) -> None:
        if self._draining.is_set():
            log.warning("Asked twice to end: %d requests are given up.", self._active)
            self.limits = self.limits.model_copy(update={"drain_seconds": 0.001})
            self._empty.set()
        self.drain()

    async def _finished(self) -> None:
        """Every connection is gone: by its last answer, which says close, or because nothing came on it for a while."""
        until = time.monotonic() + LINGER_SECONDS
        while self.state.connections and not self._empty.is_set():
            if time.monotonic() > until:
                for connection in list(self.state.connections):
                    if isinstance(connection, Connection) and connection.idle:
                        connection.transport.close()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), 0.1)

    async def _tick(self) -> None:
        while True:
            self._headers()
            now = time.monotonic()
            for connection in list(self.state.connections):
                if isinstance(connection, Connection):
                    connection.overdue(now, self.limits)
            self.board.waiting = self.app.service.waiting
            self.board.write()
            self.app.metrics.queue(self.app.service.waiting)
            await asyncio.sleep(TICK_SECONDS)

    def _headers(self) -> None:
        headers = [*instance_headers(), (b"date", formatdate(usegmt=True).encode())]
        if self.app.draining:
            headers.append((b"connection", b"close"))
        # In place: every connection holds this list.
        self.state.default_headers[:] = headers
