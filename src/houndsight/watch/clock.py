"""Divides the wall time of a loop that others wrote into named parts, which sum to all of it; into the records."""

import os
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

from houndsight.records.writer import RecordWriter

SPAN_SECONDS = 0.02  # shorter steps share their spans: eight spans cost some 30 us to record, 0.15 % of this
REST = "rest"
_ORDER = ("data", "copy", "forward", "backward", "optimizer", "sync", "debugger", "profiler", "checkpoint", "evaluate")
_LEADS_TO_FORWARD = ("data", "copy", REST)


class LoopClock:
    """A stopwatch that always runs for exactly one part: the outermost that was entered, else `rest`.

    `enter` and `leave` cost 1 us together. Only the thread that made it is watched, and in a forked process nothing is.
    """

    def __init__(self, records: RecordWriter) -> None:
        self.steps = 0
        self.cpu: dict[str, float] = {}
        self.thread_cpu: dict[str, float] = {}
        self.on = True
        self._records = records
        self._thread = threading.get_ident()
        self._spent: dict[str, float] = {}
        self._pending: dict[str, float] = {}
        self._depth, self._part = 0, REST
        self._stepped, self._first, self._entered = False, 0, False
        self._cpu_now, self._thread_now = time.process_time(), time.thread_time()
        self._mark = self._began = time.perf_counter()
        self._offset = time.time() - self._mark
        _stop_after_fork(self)

    def mine(self) -> bool:
        """Whether this is the thread that is watched, and no part has been entered."""
        return self._depth == 0 and self.on and threading.get_ident() == self._thread

    def in_optimizer(self) -> bool:
        """Whether the watched thread has entered the optimizer."""
        return self._part == "optimizer" and self.on and threading.get_ident() == self._thread

    def enter(self, part: str) -> None:
        """From now on the time goes into `part`."""
        self._lap()
        if part in ("data", "forward"):
            if self._stepped:
                self._close_step()
            elif not self._entered:
                self._around("setup")
                self.cpu.clear()
                self.thread_cpu.clear()
            self._entered = True
        self._depth, self._part = 1, part

    def leave(self) -> None:
        """The part that was entered has ended; the time goes into the rest."""
        self._lap()
        if self._part == "evaluate":
            for name, seconds in self._pending.items():  # what led here was on the way to an evaluation
                self._spent[name] -= seconds
                self._spent["evaluate"] = self._spent.get("evaluate", 0.0) + seconds
        if self._part not in _LEADS_TO_FORWARD:
            self._pending.clear()
        self._stepped = self._stepped or self._part == "optimizer"
        self._depth, self._part = 0, REST

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """The block's time goes into `name`, unless another part has been entered already."""
        if not self.mine():
            yield
            return
        self.enter(name)
        try:
            yield
        finally:
            self.leave()

    def close(self) -> None:
        """Write what has not been written."""
        if self.on:
            self._lap()
            if self._stepped or self.steps > self._first:  # steps too short to have been written yet
                self._close_step(at_once=True)
            else:
                self._around("teardown")
            self.on = False

    def _lap(self) -> None:
        now, part = time.perf_counter(), self._part
        seconds = now - self._mark
        self._spent[part] = self._spent.get(part, 0.0) + seconds
        if part in _LEADS_TO_FORWARD and not self._stepped:
            self._pending[part] = self._pending.get(part, 0.0) + seconds
        cpu, thread = time.process_time(), time.thread_time()
        self.cpu[part] = self.cpu.get(part, 0.0) + cpu - self._cpu_now
        self.thread_cpu[part] = self.thread_cpu.get(part, 0.0) + thread - self._thread_now
        self._mark, self._cpu_now, self._thread_now = now, cpu, thread

    def _around(self, name: str) -> None:
        """What was spent since the last step, evaluation apart, came before or after the loop: a stage, no step."""
        start = self._began + self._offset
        evaluated = self._spent.pop("evaluate", 0.0)
        for each, seconds in (("evaluate", evaluated), (name, sum(self._spent.values()))):
            if seconds > 0:
                self._records.add_span(each, start, seconds, self._first)
                start += seconds
        self._spent.clear()
        self._pending.clear()
        self._began = self._mark

    def _close_step(self, *, at_once: bool = False) -> None:
        """A step has ended: write the parts of the steps since the last time, unless that is too little."""
        self._pending.clear()
        self.steps += self._stepped
        self._stepped = False
        if self._mark - self._began < SPAN_SECONDS and not at_once:
            return
        start = self._began + self._offset
        for name in (*_ORDER, REST):
            seconds = self._spent.get(name, 0.0)
            if seconds > 0:
                self._records.add_span(name, start, seconds, self._first)
                start += seconds
        self._spent.clear()
        self._first, self._began = self.steps, self._mark


_running: "weakref.WeakSet[LoopClock]" = weakref.WeakSet()
_prepared: list[int] = []


def _stop_after_fork(clock: LoopClock) -> None:
    """A forked data worker inherits the patched functions, and must not measure with them."""
    _running.add(clock)
    if not _prepared:
        _prepared.append(1)
        os.register_at_fork(after_in_child=_stop_all)


def _stop_all() -> None:
    for clock in _running:
        clock.on = False
