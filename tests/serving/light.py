"""A classifier that needs no torch (which third of the brightness an image has), and a real server around it."""

import asyncio
import http.client
import io
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from houndsight.results import ModelCard
from houndsight.serving.accept import Board
from houndsight.serving.app import build_app
from houndsight.serving.metrics import Metrics
from houndsight.serving.predictor import Predictor
from houndsight.serving.server import Server
from houndsight.serving.service import ImageService
from houndsight.serving.settings import InstanceSettings
from houndsight.spec import Preprocess

CLASSES = ("dark", "grey", "light")
SIDE = 32
PREPROCESS = Preprocess(image_size=SIDE, resize=SIDE)


def brightness(batch: NDArray[np.uint8]) -> NDArray[np.float32]:
    mean = batch.reshape(len(batch), -1).mean(axis=1, dtype=np.float32)[:, None] / 255
    logits: NDArray[np.float32] = -np.abs(mean - np.array([0.0, 0.5, 1.0], np.float32)) * 10
    return logits


def predictor(forward: Callable[[NDArray[np.uint8]], NDArray[np.float32]] = brightness) -> Predictor:
    card = ModelCard(classes=CLASSES, preprocess=PREPROCESS, backbone="none")
    return Predictor(card, forward, "test", pixels=1_000_000)


def picture(level: int = 255, kind: str = "PNG", size: tuple[int, int] = (SIDE, SIDE)) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, (level, level, level)).save(out, kind)
    return out.getvalue()


class Served:
    """A server in a thread of its own, on a port of its own."""

    def __init__(self, server: Server, port: int, done: threading.Event) -> None:
        self.server, self.port, self.done = server, port, done

    def connect(self, timeout: float = 10) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout)

    def ask(
        self, body: bytes = b"", path: str = "/invocations", method: str = "POST", **headers: str
    ) -> tuple[int, bytes, http.client.HTTPMessage]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body or None, named)
            answer = connection.getresponse()
            return answer.status, answer.read(), answer.headers
        finally:
            connection.close()

    def drain(self) -> None:
        self.server.loop.call_soon_threadsafe(self.server.drain)


@contextmanager
def serving(
    model: Predictor | None = None, key: bytes | None = None, capture: Any = None, **settings: Any
) -> Iterator[Served]:
    given = InstanceSettings(model=".", **{"threads": 2, **settings})
    started, done = threading.Event(), threading.Event()
    found: list[Any] = []

    async def live() -> None:
        listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
        metrics = Metrics("lamp", "A")
        service = ImageService(model or predictor(), given, metrics)
        board = Board(None, 0)
        app = build_app(
            service, name="lamp", variant="A", limits=given.limits, metrics=metrics, key=key, capture=capture,
            load=board.everybody,
        )  # fmt: skip
        server = Server(app, given.limits, board)
        found.extend([server, listener.getsockname()[1]])
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
    assert started.wait(20)
    served = Served(found[0], found[1], done)
    try:
        yield served
    finally:
        if not done.is_set():
            served.drain()
        assert done.wait(20), "the server does not end"
        thread.join(5)
