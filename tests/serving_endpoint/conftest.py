"""Two small models that differ in their answers, a picture, callers, and endpoints that are gone at the end."""

import http.client
import io
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

import houndsight
from houndsight.backends import process
from houndsight.verbs.endpoints import Deployment

CLASSES = {"old": ("badger", "fox", "hare"), "new": ("beagle", "collie", "pointer")}
"""What each model may answer: no request can be taken for one of the other model."""


@cache
def artifact(place: Path, name: str) -> Path:
    """An untrained network that answers one of `CLASSES[name]`."""
    import torch

    from houndsight.models import artifact as artifacts
    from houndsight.models import network
    from houndsight.results import ModelCard
    from houndsight.spec import ClassifierSpec

    torch.manual_seed(len(name))
    spec = ClassifierSpec(data="none", backbone="shufflenet_v2_x0_5", weights="none", freeze="none", image_size=32)
    net = network.build(spec, 3).network.eval()
    side = net.preprocess.image_size
    samples = np.random.default_rng(0).integers(0, 256, (8, side, side, 3), dtype=np.uint8)
    card = ModelCard(classes=CLASSES[name], preprocess=net.preprocess, backbone=net.name)
    artifacts.save(place / name, net, card, samples)
    return place / name


@pytest.fixture
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The models `old` and `new`."""
    place = tmp_path_factory.getbasetemp() / "models"
    return {name: artifact(place, name) for name in CLASSES}


@pytest.fixture
def picture() -> bytes:
    """A small JPEG."""
    file = io.BytesIO()
    Image.linear_gradient("L").resize((40, 40)).convert("RGB").save(file, "JPEG")
    return file.getvalue()


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace that `$HOUNDSIGHT_HOME` names, shared by the tests so that a model is prepared but once."""
    folder = tmp_path_factory.getbasetemp() / "runs"
    monkeypatch.setenv("HOUNDSIGHT_HOME", str(folder))
    return folder


Deploy = Callable[..., Deployment]


@pytest.fixture
def deploy(place: Path) -> Iterator[Deploy]:
    """`houndsight.deploy`; at the end every process of every endpoint has to be gone."""
    made: list[Deployment] = []

    def start(*args: Any, **options: Any) -> Deployment:
        made.append(houndsight.deploy(*args, **options))
        return made[-1]

    yield start
    left = []
    for each in made:
        if each.files.path.exists():
            left += processes(each)
            each.delete()
    assert not [one for one in left if process.alive(*one)]


def processes(of: Deployment) -> list[tuple[int, float | None]]:
    """Process id and start time of everything that the endpoint runs."""
    status = of.status
    mine = [(status.pid, status.pid_started), *((each.pid, each.pid_started) for each in status.instances)]
    return [(pid, since) for pid, since in mine if pid is not None]


class Callers:
    """Threads that ask again and again, each on one connection that it keeps as long as the endpoint lets it."""

    PAUSE = 0.03  # leaves the cores to the endpoint, whose tests these are

    def __init__(self, url: str, body: bytes, count: int = 4, headers: dict[str, str] | None = None) -> None:
        self.classes: Counter[str] = Counter()
        self.statuses: Counter[int] = Counter()
        self.variants: Counter[str] = Counter()
        self.instances: Counter[str] = Counter()
        self.failures: list[str] = []
        self._address = urlsplit(url)
        self._body, self._headers = body, {"content-type": "image/jpeg", **(headers or {})}
        self._lock, self._stop, self._more = threading.Lock(), threading.Event(), threading.Condition()
        self._threads = [threading.Thread(target=self._ask) for _ in range(count)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    @property
    def answered(self) -> int:
        """Requests that were answered."""
        return sum(self.statuses.values())

    @property
    def lost(self) -> list[str]:
        """Failures of requests that an instance may have begun: not those that came when nobody accepted any more."""
        return [each for each in self.failures if not each.startswith("nobody")]

    def wait_for(self, true: Callable[["Callers"], bool], timeout: float = 120.0) -> None:
        """Return once `true` of what was answered."""
        with self._more:
            assert self._more.wait_for(lambda: true(self), timeout), (self.statuses, self.failures[:3])

    def wait_for_more(self, count: int = 20) -> None:
        """Return after `count` further answers."""
        until = self.answered + count
        self.wait_for(lambda now: now.answered >= until)

    def _ask(self) -> None:
        connection, used = self._connection(), False
        while not self._stop.wait(self.PAUSE):
            try:
                connection.request("POST", "/invocations", self._body, self._headers)
                response = connection.getresponse()
                body = response.read()
                used = not response.will_close
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                fresh = "" if used else "nobody had taken the connection: "
                connection, used = self._connection(), False
                with self._more:
                    self.failures.append(f"{fresh}{type(error).__name__}: {error}")
                    self._more.notify_all()
                continue
            with self._more:
                self.statuses[response.status] += 1
                self.variants[response.headers["x-amzn-invoked-production-variant"]] += 1
                self.instances[response.headers["x-houndsight-instance"]] += 1
                if response.status == 200:
                    self.classes[json.loads(body)["predictions"][0]["class"]] += 1
                self._more.notify_all()
        connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        assert self._address.hostname is not None
        return http.client.HTTPConnection(self._address.hostname, self._address.port, timeout=60)
