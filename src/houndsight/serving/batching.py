"""The queue of an instance: compute threads take what waits the moment they are free, and decode each image apart.

No timer: a lone caller waits for nobody, and under load batches form by themselves. Requests take turns image by image,
so one with sixty images does not hold up the others.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from houndsight.errors import HoundsightError, ImageError, JobError, RequestError

log = logging.getLogger("houndsight")

Image = bytes | NDArray[np.uint8]
"""An encoded image, or pixels (S, S, 3) that are the network's input already."""
Row = NDArray[np.float64]
"""Probabilities (C,)."""


class QueueFullError(RequestError):
    """No room in the queue; `retry_after` is in seconds."""

    def __init__(self, waiting: int, retry_after: int) -> None:
        super().__init__(f"{waiting} images are waiting already.", f"Try again in {retry_after} s.")
        self.retry_after = retry_after


class ExpiredError(RequestError):
    """The request's deadline passed before it was computed."""


class Model(Protocol):
    """What the threads need of a predictor."""

    def decode(self, data: bytes) -> NDArray[np.uint8]:
        """An encoded image -> the network's input; raises `ImageError`."""
        ...

    def predict(self, batch: NDArray[np.uint8]) -> NDArray[np.float64]:
        """(B, S, S, 3) -> probabilities (B, C)."""
        ...


class Observer(Protocol):
    """Told what things took, from the compute threads."""

    def batch(self, images: int, decode: float, forward: float) -> None:
        """A batch of `images` was computed; seconds."""
        ...

    def waited(self, seconds: float) -> None:
        """An image waited so long in the queue."""
        ...


@dataclass
class Timing:
    """Seconds that a request's images took, summed over them."""

    queue: float = 0.0
    decode: float = 0.0
    forward: float = 0.0


@dataclass(eq=False)
class Work:
    """One request's images and what became of each."""

    images: Sequence[Image]
    deadline: float
    """By `time.monotonic`; images that are not begun by then are not computed."""
    gone: Callable[[], bool]
    """Whether the caller has hung up."""
    done: "asyncio.Future[list[Row | HoundsightError]]"
    arrived: float
    answers: list[Any] = field(init=False)
    timing: Timing = field(default_factory=Timing)
    begun: int = 0
    finished: int = 0

    def __post_init__(self) -> None:
        self.answers = [None] * len(self.images)


class Batcher:
    """A bounded queue and the threads that empty it."""

    def __init__(self, model: Model, *, threads: int, batch: int, queue: int, observer: Observer) -> None:
        self._model, self._threads, self._batch, self._limit = model, threads, batch, queue
        self._observer = observer
        self._waiting: deque[Work] = deque()
        self._count = 0
        self._more = threading.Condition()
        self._stopped = False
        self._cost = 0.02  # seconds of one thread an image, a moving average; tells callers when to come back
        self._began: dict[int, float] = {}
        self._workers = [
            threading.Thread(target=self._work, name=f"compute-{number}", daemon=True) for number in range(threads)
        ]
        for worker in self._workers:
            worker.start()

    @property
    def waiting(self) -> int:
        """Images that nobody has begun."""
        return self._count

    @property
    def longest(self) -> float:
        """Seconds for which the oldest batch has been computing; 0 where nothing is computed."""
        began = list(self._began.values())
        return time.monotonic() - min(began) if began else 0.0

    def submit(self, images: Sequence[Image], deadline: float, gone: Callable[[], bool]) -> Work:
        """Queue a request's images; `done` of what is returned holds one row or error an image. In the event loop.

        Raises `QueueFullError` where not all of them find room.
        """
        loop = asyncio.get_running_loop()
        work = Work(images, deadline, gone, loop.create_future(), time.monotonic())
        with self._more:
            if self._count + len(images) > self._limit and self._count:
                seconds = max(1, round(self._count * self._cost / self._threads))
                raise QueueFullError(self._count, seconds)
            self._count += len(images)
            self._waiting.append(work)
            self._more.notify(len(images))
        return work

    def stop(self) -> None:
        """End the threads once the queue is empty; returns when they have ended."""
        with self._more:
            self._stopped = True
            self._more.notify_all()
        for worker in self._workers:
            worker.join()

    def _take(self) -> list[tuple[Work, int]]:
        """A fair share of what waits, one image of each request in turn; empty when it is time to end."""
        with self._more:
            while not self._count:
                if self._stopped:
                    return []
                self._more.wait()
            share = min(self._batch, -(-self._count // self._threads))
            taken = []
            for _ in range(share):
                work = self._waiting.popleft()
                taken.append((work, work.begun))
                work.begun += 1
                if work.begun < len(work.images):
                    self._waiting.append(work)
            self._count -= share
            return taken

    def _work(self) -> None:
        me = threading.get_ident()
        while taken := self._take():
            start = self._began[me] = time.monotonic()
            try:
                self._compute(taken, start)
            finally:
                del self._began[me]
                self._post([work for work, _ in taken])
            taken_seconds = (time.monotonic() - start) / len(taken)
            self._cost += 0.1 * (taken_seconds - self._cost)

    def _compute(self, taken: list[tuple[Work, int]], start: float) -> None:
        places, inputs = [], []
        for work, place in taken:
            self._observer.waited(start - work.arrived)
            work.timing.queue += start - work.arrived
            if work.deadline < start:
                work.answers[place] = ExpiredError("The request waited in the queue until after its deadline.")
            elif work.gone():
                work.answers[place] = ExpiredError("The caller has gone.")
            else:
                began = time.monotonic()
                found = self._decoded(work.images[place])
                work.timing.decode += time.monotonic() - began
                if isinstance(found, HoundsightError):
                    work.answers[place] = found
                else:
                    places.append((work, place))
                    inputs.append(found)
        if not inputs:
            return
        began = time.monotonic()
        rows = self._rows(inputs)
        taken_seconds = time.monotonic() - began
        for (work, place), row in zip(places, rows, strict=True):
            work.answers[place] = row
            work.timing.forward += taken_seconds / len(inputs)
        self._observer.batch(len(inputs), began - start, taken_seconds)

    def _decoded(self, image: Image) -> NDArray[np.uint8] | HoundsightError:
        """In its own try: what one image does to the decoder is answered to its own caller alone."""
        if not isinstance(image, bytes):
            return image
        try:
            return self._model.decode(image)
        except ImageError as error:
            return error
        except MemoryError:
            return ImageError("too large for the memory that is left")
        except Exception as error:
            log.exception("An image of %d bytes was not decoded.", len(image))
            return ImageError(f"cannot be decoded: {type(error).__name__}")

    def _rows(self, inputs: list[NDArray[np.uint8]]) -> Sequence[Row | HoundsightError]:
        try:
            return list(self._model.predict(np.stack(inputs)))
        except Exception:
            log.exception("A batch of %d failed; each of its images is tried alone.", len(inputs))
            return [self._row(each) for each in inputs]

    def _row(self, one: NDArray[np.uint8]) -> Row | HoundsightError:
        try:
            row: Row = self._model.predict(one[None])[0]
            return row
        except Exception as error:
            log.exception("An image failed in the model.")
            return JobError(f"The model failed: {type(error).__name__}: {error}")

    def _post(self, works: list[Work]) -> None:
        """Hand over every request that is whole; one call into the event loop a batch."""
        whole = []
        with self._more:  # two threads may hold images of one request
            for work in works:
                work.finished += 1
                if work.finished == len(work.images):
                    whole.append(work)

        def deliver() -> None:
            for work in whole:
                if not work.done.done():
                    work.done.set_result(work.answers)

        if whole:
            try:
                whole[0].done.get_loop().call_soon_threadsafe(deliver)
            except RuntimeError:
                log.info("%d answers came after the end of the event loop.", len(whole))
