"""A SageMaker script's handlers as a `Service`: one process runs them, one request at a time; this is its keeper.

A handler that raises is answered 500 with one sentence; its traceback is in the endpoint's log. One that ends or
crashes its process, takes longer than a request may, or holds too much memory costs its own request only: the process
is replaced, and what waits is answered by the next. A model that cannot be loaded is no reason to be away: /ping is
200 and every answer 500 with the reason, as in Amazon's container.
"""

import asyncio
import logging
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

from houndsight.errors import JobError
from houndsight.serving.batching import ExpiredError, Observer, QueueFullError
from houndsight.serving.handlers_process import GoneError, Worker
from houndsight.serving.requests import RequestRefusedError
from houndsight.serving.service import Call, Reply
from houndsight.serving.settings import InstanceSettings

Result = TypeVar("Result")
log = logging.getLogger("houndsight")

FIRST_DELAY, LONGEST_DELAY = 0.5, 60.0
"""Seconds before a model that loaded once, and now does not, is tried again."""
MEMORY_SECONDS = 1.0
"""The memory of the process is looked at this often at most."""


class HandlerService:
    """The handlers of one model; `open` it in the event loop that asks it."""

    def __init__(self, settings: InstanceSettings, observer: Observer) -> None:
        assert settings.handlers is not None
        self.problem = ""
        self._settings, self._observer, self._program = settings, observer, settings.handlers.name
        self._turn = asyncio.Lock()
        self._worker: Worker | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._own: list[str] = []
        self._count = self._number = self._failures = 0
        self._began = self._looked = 0.0
        self._cost = 0.1  # seconds of a request, a moving average; tells callers when to come back
        self._replacing = False

    @classmethod
    async def open(cls, settings: InstanceSettings, observer: Observer) -> "HandlerService":
        """Start the process and load the model; what fails there is `problem`, for it is the script's."""
        service = cls(settings, observer)
        await service._renew()
        return service

    @property
    def waiting(self) -> int:
        """Requests that wait."""
        return self._count

    @property
    def longest(self) -> float:
        """Seconds for which the present request has been computed."""
        return time.monotonic() - self._began if self._began else 0.0

    def describe(self) -> dict[str, Any]:
        """The script and which of the handlers are its own."""
        pid = self._worker.process.pid if self._worker is not None else None
        return {"runtime": "handlers", "program": self._program, "functions": self._own, "pid": pid}

    async def answer(self, call: Call) -> Reply:
        """What the script answers. Raises `JobError` for what it raises, `ExpiredError` where it takes too long."""
        if self._count >= self._settings.limits.queue:
            raise QueueFullError(self._count, max(1, round(self._count * self._cost)))
        asked = _Asked(call)
        turn = self._task(self._answered(asked))
        try:
            await asyncio.wait({turn}, timeout=max(0.0, call.deadline - time.monotonic()))
        finally:
            if not turn.done() and not asked.begun:
                turn.cancel()
        if turn.done() and not turn.cancelled():
            return turn.result()
        if asked.begun:
            raise ExpiredError(f"{self._program} took longer than the request may.", "The endpoint's log may say more.")
        raise ExpiredError("The request waited in the queue until after its deadline.")

    def stop(self) -> None:
        """End the process; what it is doing has no listener any more."""
        for task in self._tasks:
            task.cancel()
        if self._worker is not None:
            self._worker.close()
            self._worker = None

    # ------------------------------------------------------------------------------------- one request

    async def _answered(self, asked: "_Asked") -> Reply:
        """Wait for the turn, and go through with it even where the caller gives up: the process is busy till then."""
        call = asked.call
        self._count += 1
        try:
            await self._turn.acquire()
        finally:
            self._count -= 1
        try:
            start = time.monotonic()
            if call.deadline < start or call.gone():
                raise ExpiredError("The request waited in the queue until after its deadline, or its caller has gone.")
            if self._worker is None:
                await self._renew()
            if self._worker is None:
                raise JobError(self.problem)
            asked.begun = True
            self._began = start = time.monotonic()
            self._observer.waited(start - asked.arrived)
            head, body = await self._asked(self._worker, call)
            seconds = time.monotonic() - start
            self._observer.batch(1, 0.0, seconds)
            self._cost += 0.1 * (seconds - self._cost)
            self._look()
        finally:
            self._began = 0.0
            self._turn.release()
        return _reply(head, body, self._program)

    async def _asked(self, worker: Worker, call: Call) -> tuple[dict[str, Any], bytes]:
        self._number += 1
        head = {
            "number": self._number,
            "content_type": call.headers.get("content-type"),
            "accept": call.headers.get("accept"),
            "headers": dict(call.headers),
        }
        most = self._settings.limits.answer_seconds
        try:
            async with asyncio.timeout(most):
                return await worker.ask(head, call.body)
        except TimeoutError:
            self._worker = None
            log.warning("%s took longer than %.0f s for a request; its process is replaced.", self._program, most)
            await worker.kill()
            self._task(self._renew_in_turn())
            raise ExpiredError(f"{self._program} took longer than {most:.0f} s.", "Its process is replaced.") from None
        except GoneError as error:
            self._worker = None
            await worker.end()
            self._task(self._renew_in_turn())
            log.warning("The process of %s ended in the middle of a request, %s.", self._program, error)
            raise JobError(
                f"{self._program} ended its process in the middle of the request, {error}.", "It is started again."
            ) from None

    # -------------------------------------------------------------------------------------- the process

    async def _renew_in_turn(self) -> None:
        async with self._turn:
            if self._worker is None:
                await self._renew()

    async def _renew(self) -> None:
        """Start a process and load the model; a model that loaded once is tried again and again."""
        loaded_before = bool(self._own) or self._failures > 0
        worker: Worker | None = None
        try:
            worker = await Worker.start(self._settings)
            problem = await worker.loaded()
        except JobError as error:
            problem = str(error)
        except BaseException:
            if worker is not None:
                worker.close()
            raise
        self.problem = problem
        if not problem:
            assert worker is not None
            self._worker, self._own, self._failures = worker, worker.own or ["the container's defaults"], 0
            return
        if worker is not None:
            await worker.end()
        log.error("%s", problem)
        if loaded_before:
            delay = min(LONGEST_DELAY, FIRST_DELAY * 2**self._failures)
            self._failures = min(20, self._failures + 1)
            self._task(self._renew_after(delay))

    async def _renew_after(self, delay: float) -> None:
        await asyncio.sleep(delay)
        await self._renew_in_turn()

    def _look(self) -> None:
        """Replace a process that holds too much memory; the present one answers until the next has its model."""
        now = time.monotonic()
        if now - self._looked < MEMORY_SECONDS or self._replacing or self._worker is None:
            return
        self._looked = now
        if self._worker.heavy:
            log.warning("The process of %s holds %.0f MB: it is replaced.", self._program, self._worker.memory / 2**20)
            self._replacing = True
            self._task(self._replace())

    async def _replace(self) -> None:
        worker = await Worker.start(self._settings)
        try:
            problem = await worker.loaded()
            async with self._turn:
                if problem:
                    log.error("It is not replaced, for the next one fails. %s", problem)
                else:
                    self._worker, worker = worker, self._worker or worker
        finally:
            self._replacing = False
            await worker.end()

    def _task(self, work: Coroutine[Any, Any, Result]) -> "asyncio.Task[Result]":
        """Run beside what is going on; an error is its awaiter's, or written down here."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return task


class _Asked:
    def __init__(self, call: Call) -> None:
        self.call = call
        self.arrived = time.monotonic()
        self.begun = False


def _reply(head: dict[str, Any], body: bytes, program: str) -> Reply:
    """The answer of the script; raises `JobError`, or `RequestRefusedError` where it chose a status of its own."""
    if "error" not in head:
        headers = {name: value for name, value in head["headers"].items() if name.lower() != "content-type"}
        return Reply(body, head["headers"]["content-type"], head["status"], headers)
    if head["status"] == 500:
        raise JobError(f"{program} failed: {head['error']}")
    raise RequestRefusedError(head["status"], head["error"])
