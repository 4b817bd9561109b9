"""What answers a request behind the app: the classifier here, a SageMaker script's handlers elsewhere, alike."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from houndsight.errors import HoundsightError
from houndsight.serving.answers import encode, wanted
from houndsight.serving.batching import Batcher, Observer
from houndsight.serving.fetch import fetch
from houndsight.serving.predictor import Predictor
from houndsight.serving.prepared import cores
from houndsight.serving.requests import Asked, parse
from houndsight.serving.settings import InstanceSettings

_LARGE = 100_000  # bytes of JSON or of an array that are parsed beside the event loop, not in it


@dataclass(frozen=True)
class Call:
    """One request, its body whole and unpacked."""

    body: bytes
    content_type: str
    accept: str
    headers: Mapping[str, str]
    deadline: float
    """By `time.monotonic`."""
    gone: Callable[[], bool]
    """Whether the caller has hung up."""


@dataclass(frozen=True)
class Reply:
    """One answer."""

    body: bytes
    content_type: str
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


class Service(Protocol):
    """What an app serves."""

    problem: str
    """Why the model cannot answer, where that is known; every answer is 500 then, and /ping is 200, as on Amazon."""

    async def answer(self, call: Call) -> Reply:
        """Answer, or raise `HoundsightError`."""
        ...

    @property
    def waiting(self) -> int:
        """How much waits to be computed."""
        ...

    @property
    def longest(self) -> float:
        """Seconds for which the oldest computation has been going on."""
        ...

    def describe(self) -> dict[str, Any]:
        """What is served, for people."""
        ...

    def stop(self) -> None:
        """Finish what waits, then end every thread."""
        ...


class ImageService:
    """The classifier: images in, classes with probabilities out."""

    def __init__(self, predictor: Predictor, settings: InstanceSettings, observer: Observer) -> None:
        self.problem = ""
        self._predictor, self._settings = predictor, settings
        self._threads = settings.threads or cores()
        self._batcher = Batcher(
            predictor,
            threads=self._threads,
            batch=settings.batch,
            queue=settings.limits.queue,
            observer=observer,
        )

    @property
    def waiting(self) -> int:
        """Images that wait."""
        return self._batcher.waiting

    @property
    def longest(self) -> float:
        """Seconds for which the oldest batch has been computing."""
        return self._batcher.longest

    def describe(self) -> dict[str, Any]:
        """Classes, runtime and training results."""
        card = self._predictor.card
        return {
            "classes": list(card.classes),
            "backbone": card.backbone,
            "runtime": self._predictor.runtime,
            "threads": self._threads,
            "image_size": card.preprocess.image_size,
            "metrics": {split: found["top1"].value for split, found in card.metrics.items() if "top1" in found},
        }

    async def answer(self, call: Call) -> Reply:
        """The classes of every image; a single image that cannot be read raises, one of several is answered so."""
        settings = self._settings
        how = wanted(call.accept, settings.form, settings.top)
        asked = await self._parsed(call)
        work = self._batcher.submit(asked.images, call.deadline, call.gone)
        rows = await work.done
        failed = [row for row in rows if isinstance(row, HoundsightError)]
        if failed and (not asked.many or len(failed) == len(rows)):
            raise failed[0]
        body, kind = encode(rows, asked.many, how, self._predictor.classes, settings.reject_below)
        timing = work.timing
        parts = (("queue", timing.queue), ("decode", timing.decode), ("forward", timing.forward))
        spent = ", ".join(f"{name};dur={seconds * 1e3:.2f}" for name, seconds in parts)
        return Reply(body, kind, headers={"server-timing": spent})

    async def _parsed(self, call: Call) -> Asked:
        settings = self._settings
        address = fetch(settings.limits, call.deadline - time.monotonic()) if settings.allow_url else None
        arguments = (call.content_type, call.body, self._predictor.preprocess, settings.limits, address)
        kind = call.content_type.partition(";")[0].strip().lower()
        if kind.startswith("application/") and "octet" not in kind and (address or len(call.body) > _LARGE):
            return await asyncio.to_thread(parse, *arguments)
        return parse(*arguments)

    def stop(self) -> None:
        """Finish the queue and end the threads."""
        self._batcher.stop()
