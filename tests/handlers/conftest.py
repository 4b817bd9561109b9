"""A script behind a real server, its handlers in a process of their own."""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from houndsight.serving.accept import Board
from houndsight.serving.app import build_app
from houndsight.serving.handlers import HandlerService
from houndsight.serving.metrics import Metrics
from houndsight.serving.server import Server
from houndsight.serving.settings import InstanceSettings, Limits
from tests.serving.light import Served


class Lives(Served):
    """A server whose script answers."""

    service: HandlerService

    @property
    def pid(self) -> int:
        """The process of the handlers."""
        return int(self.service.describe()["pid"])


Serve = Callable[..., AbstractContextManager[Lives]]


@pytest.fixture
def serve(tmp_path: Path) -> Serve:
    """Serve the code as inference.py: `with serve(code, queue=4)`; keywords are limits, `told` settings."""

    @contextmanager
    def serving(code: str, told: dict[str, Any] | None = None, **limits: Any) -> Iterator[Lives]:
        model = tmp_path / "model"
        (model / "code").mkdir(parents=True, exist_ok=True)
        (model / "code" / "inference.py").write_text(code)
        given = InstanceSettings(
            model=model,
            handlers=model / "code" / "inference.py",
            limits=Limits(**{"drain_seconds": 5.0, **limits}),
            **(told or {}),
        )
        found: list[Any] = []
        started, done = threading.Event(), threading.Event()

        async def live() -> None:
            listener = socket.create_server(("127.0.0.1", 0))
            metrics = Metrics("lamp", "A")
            service = await HandlerService.open(given, metrics)
            board = Board(None, 0)
            app = build_app(service, name="lamp", variant="A", limits=given.limits, metrics=metrics)
            server = Server(app, given.limits, board)
            found.extend([server, listener.getsockname()[1], service])
            try:
                await server.run([(listener, False)], started.set)
            finally:
                service.stop()

        def run() -> None:
            import uvloop

            try:
                with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                    runner.run(live())
            finally:
                done.set()
                started.set()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        assert started.wait(60)
        lives = Lives(found[0], found[1], done)
        lives.service = found[2]
        try:
            yield lives
        finally:
            if not done.is_set():
                lives.drain()
            assert done.wait(30), "the server does not end"
            thread.join(5)

    return serving
