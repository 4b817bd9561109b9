"""Numbers out of what a script prints: regular expressions over its lines, into the job's records."""

import logging
import math
import re
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from houndsight.records.writer import RecordWriter

log = logging.getLogger("houndsight")

MODE = "script"
PATIENCE = 1.0
"""Seconds of CPU that the expressions may take for one piece of output (64 KiB at most); 40 of them over 1,000 usual
lines take under a tenth of it. A catastrophic one would never come back: it is given up, and the job goes on."""


@dataclass
class Metric:
    """One expression and what it has found."""

    name: str
    pattern: re.Pattern[str]
    found: int = 0
    skipped: int = 0
    """Matches whose group is no finite number, such as `0.5.` from `([0-9\\.]+)`."""
    gave_up: bool = False
    last: float | None = None
    lowest: float | None = None
    highest: float | None = None

    def take(self, text: str | None) -> float | None:
        """The number in a match's first group, or None where it is none; counts both."""
        try:
            value = float(text) if text is not None else math.nan
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            self.skipped += 1
            return None
        self.found += 1
        self.last = value
        self.lowest = value if self.lowest is None else min(self.lowest, value)
        self.highest = value if self.highest is None else max(self.highest, value)
        return value


class _TookTooLongError(Exception):
    """An expression has used up its time."""


class MetricScanner:
    """Looks for every metric in every line and records the first match's first group.

    The n-th number of a metric has step n, from 0, or from where an earlier start of the job left off (`recorded`:
    how many there are by name); its mode is `script`.
    """

    def __init__(
        self,
        expressions: Mapping[str, str],
        records: RecordWriter,
        recorded: Mapping[str, int] | None = None,
        patience: float = PATIENCE,
    ) -> None:
        self.metrics = [Metric(name, re.compile(expression)) for name, expression in expressions.items()]
        self._records = records
        self._recorded = recorded or {}
        self._patience = patience
        self._searching = False

    def scan(self, lines: list[str]) -> None:
        """Look through lines that were printed; never raises for what stands in them."""
        if not lines or not self.metrics:
            return
        with self._time_limit():
            for metric in self.metrics:
                if not metric.gave_up:
                    self._scan_for(metric, lines)

    def _scan_for(self, metric: Metric, lines: list[str]) -> None:
        for line in lines:
            try:
                self._searching = True
                match = metric.pattern.search(line)
            except _TookTooLongError:
                metric.gave_up = True
                log.warning(
                    "Metric '%s' is given up: its expression took more than %g s for one piece of output. %s",
                    *(metric.name, self._patience, "Nested repetitions such as (a+)+ do that."),
                )
                return
            finally:
                self._searching = False
            if match is not None:
                value = metric.take(match[1])
                if value is not None:
                    step = self._recorded.get(metric.name, 0) + metric.found - 1
                    self._records.scalar(metric.name, value, step=step, mode=MODE)

    @contextmanager
    def _time_limit(self) -> Iterator[None]:
        """Let a search that takes too long be interrupted: Python's matcher looks for signals every 4,096 steps.

        Only a main thread gets signals; a script job in another thread has the bounded length of lines alone.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGVTALRM, self._interrupt)
        signal.setitimer(signal.ITIMER_VIRTUAL, self._patience, self._patience / 4)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            signal.signal(signal.SIGVTALRM, before)

    def _interrupt(self, _number: int, _frame: FrameType | None) -> None:
        if self._searching:
            raise _TookTooLongError
