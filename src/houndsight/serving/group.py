"""The instances that serve one model: each is kept alive in its slot; crashed and hung ones are replaced."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

from houndsight.errors import HoundsightError, JobError
from houndsight.serving.child import Child
from houndsight.serving.endpoint import InstanceStatus, Variant

log = logging.getLogger("houndsight")

SILENT_SECONDS = 10.0
"""An instance that has said nothing for so long hangs; it speaks every half second."""
STUCK_SECONDS = 90.0
"""So does one whose oldest batch has been computed for so long: every caller has been answered 504 after 60 s."""
START_SECONDS = 180.0
"""Longest start of an instance."""
LEAVE_SECONDS = 2.0
"""How long an instance that could not begin may take to leave."""
FIRST_DELAY, LONGEST_DELAY = 0.1, 30.0
"""Seconds before an instance that crashed is started again: doubled from crash to crash, up to half a minute."""
SOUND_SECONDS = 60.0
"""An instance that lived so long begins again with the shortest delay."""
LOOK_SECONDS = 1.0

Start = Callable[[int], Awaitable[Child]]
"""Starts the instance of a slot."""


class Slot:
    """A place for one instance, filled again whenever it becomes empty, until `stop`."""

    def __init__(self, number: int, start: Start, changed: Callable[[], None]) -> None:
        self.number = number
        self.child: Child | None = None
        self.state: Literal["starting", "ready", "waiting", "draining"] = "starting"
        self.restarts, self.reason = 0, ""
        self.crashes = 0
        """How often in a row it ended soon after its start."""
        self.first: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when its first instance is ready; the error where that one could not serve."""
        self.first.add_done_callback(lambda future: future.cancelled() or future.exception())
        self.gone_errors = self.gone_requests = 0
        self._start, self._changed = start, changed
        self._stopping = asyncio.Event()
        self._keeping = asyncio.create_task(self._keep())

    async def stop(self, grace: float) -> None:
        """Let its instance finish what it has, and keep it empty."""
        self._stopping.set()
        self.state = "draining"
        if self.child is not None:
            await self.child.stop(grace)
        await self._keeping

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._stopping.is_set():
            began, error = loop.time(), None
            try:
                self.reason = await self._live()
            except HoundsightError as caught:
                self.reason, error = str(caught), caught
            if self.child is not None:
                self.gone_requests += self.child.beat.get("requests", 0)
                self.gone_errors += self.child.beat.get("errors", 0)
                self.child = None
            if self._stopping.is_set():
                break
            if not self.first.done():
                self.first.set_exception(error or JobError(f"An instance ended at once: {self.reason}."))
                break  # who wanted this instance decides what becomes of it
            self.crashes = 1 if loop.time() - began > SOUND_SECONDS else self.crashes + 1
            delay = min(LONGEST_DELAY, FIRST_DELAY * 2 ** min(self.crashes - 1, 20))
            log.warning("Instance %d: %s. It is started again in %.1f s.", self.number, self.reason.rstrip("."), delay)
            self.state, self.restarts = "waiting", self.restarts + 1
            self._changed()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), delay)
        if not self.first.done():
            self.first.set_exception(JobError("It was stopped before it was ready."))

    async def _live(self) -> str:
        """Start one instance and stay with it to its end; returns why it ended."""
        self.state = "starting"
        child: Child | None = None
        try:
            async with asyncio.timeout(START_SECONDS):
                child = self.child = await self._start(self.number)
                if self._stopping.is_set():
                    await child.stop(0.0)
                self._changed()
                await asyncio.shield(child.ready)
        except (TimeoutError, HoundsightError) as error:
            if child is not None:
                await child.stop(LEAVE_SECONDS)
            if isinstance(error, HoundsightError):
                raise
            raise JobError(f"An instance was not ready after {START_SECONDS:.0f} s.") from None
        if not self._stopping.is_set():
            self.state = "ready"
        if not self.first.done():
            self.first.set_result(None)
        self._changed()
        return await self._watch(child)

    async def _watch(self, child: Child) -> str:
        loop = asyncio.get_running_loop()
        looked = loop.time()
        while not child.ended.done():
            await asyncio.wait({child.ended}, timeout=LOOK_SECONDS)
            now = loop.time()
            if now - looked > 3 * LOOK_SECONDS:
                child.beaten = now  # this process itself was held up: silence proves nothing
            looked = now
            silent, stuck = now - child.beaten, float(child.beat.get("computing", 0.0))
            if not child.ended.done() and (silent > SILENT_SECONDS or stuck > STUCK_SECONDS):
                child.kill()
                await child.ended
                how = (
                    f"no sign of life for {silent:.0f} s"
                    if silent > SILENT_SECONDS
                    else f"one batch took {stuck:.0f} s"
                )
                return f"it hung ({how}) and was killed"
        return child.ended.result()


@dataclass
class Group:
    """The slots of one model of one variant."""

    variant: Variant
    start_child: Callable[["Group", int], Awaitable[Child]]
    changed: Callable[[], None]
    numbers: Callable[[], int]
    """Gives the lowest free slot number."""
    slots: list[Slot] = field(default_factory=list)
    weight: float = 0.0
    """Its present share of the traffic; moves while an update is under way."""
    about: dict[str, Any] = field(default_factory=dict)
    """What was found when the model was prepared: its runtime."""

    @property
    def key(self) -> str:
        """What tells it from the group of another model of the same variant."""
        return self.variant.revision

    @property
    def ready(self) -> list[Slot]:
        """The slots whose instance answers."""
        return [slot for slot in self.slots if slot.state == "ready"]

    @property
    def problem(self) -> str:
        """Why a script's model cannot answer, as one of its instances says; it answers /ping all the same."""
        living = [slot.child for slot in self.slots if slot.child is not None and slot.state == "ready"]
        return next((child.problem for child in living if child.problem), "")

    async def grow(self, count: int) -> None:
        """Add instances until there are `count`; the first alone, so that a model that cannot be served is tried once.

        Raises why one could not serve; what was added is gone again then.
        """
        before = len(self.slots)
        try:
            while len(self.slots) < count:
                added = [self._add() for _ in range(1 if not self.slots else count - len(self.slots))]
                await asyncio.gather(*(asyncio.shield(slot.first) for slot in added))
        except BaseException:
            await self.shrink(before, grace=0.0)
            raise

    def _add(self) -> Slot:
        slot = Slot(self.numbers(), lambda number: self.start_child(self, number), self.changed)
        self.slots.append(slot)
        return slot

    async def shrink(self, count: int, grace: float) -> None:
        """Let the last instances finish until `count` are left."""
        leaving = self.slots[count:]
        for slot in leaving:
            slot.state = "draining"
        self.changed()
        await asyncio.gather(*(slot.stop(grace) for slot in leaving))
        del self.slots[count:]
        self.changed()

    def tallies(self) -> tuple[int, int, int]:
        """Requests answered so far, those of them answered 5xx, and instances lost."""
        living = [slot.child.beat for slot in self.slots if slot.child is not None]
        requests = sum(slot.gone_requests for slot in self.slots) + sum(beat.get("requests", 0) for beat in living)
        errors = sum(slot.gone_errors for slot in self.slots) + sum(beat.get("errors", 0) for beat in living)
        return requests, errors, sum(slot.restarts for slot in self.slots)

    def statuses(self) -> list[InstanceStatus]:
        """Its instances as they are now."""
        return [
            InstanceStatus(
                slot=slot.number,
                variant=self.variant.name,
                revision=self.variant.revision,
                pid=slot.child.pid if slot.child else None,
                pid_started=slot.child.pid_started if slot.child else None,
                state=slot.state,
                restarts=slot.restarts,
                reason=slot.reason,
            )
            for slot in self.slots
        ]

    def tell(self, order: dict[str, Any]) -> None:
        """Send an order to every instance."""
        for slot in self.slots:
            if slot.child is not None:
                slot.child.tell(order)
