"""Keeps the debugger within its budget: measures its own CPU time and the training's, and says which steps to save."""

import time
from collections import deque
from statistics import median

from houndsight.watch.plan import FIRST, DebugSpec

GRID = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)
"""Intervals to choose from: two runs that chose differently still share steps."""

FULL_EVERY = 5  # every so many saved steps are full: activations, quantiles and buffers too
KEPT = 31  # steps whose time is remembered


class Governor:
    """Counts CPU time of the training thread and of the debugger's own threads.

    Without an interval of the user's own, a step after the first five is saved where everything spent so far and what
    this step will cost stay within the budget, on a grid of intervals.
    """

    def __init__(self, spec: DebugSpec) -> None:
        self._spec = spec
        self.own = 0.0
        """CPU seconds that the debugger took in the training thread."""
        self.aside = 0.0
        """CPU seconds that its side thread took."""
        self.total = 0.0
        """CPU seconds of the training thread between the first and the last step, the debugger's included."""
        self.saved = 0
        """Steps saved."""
        self.steps = 0
        """Steps seen."""
        self._mark: float | None = None
        self._own_at_mark = self._aside_at_saved = 0.0
        self._times: deque[float] = deque(maxlen=KEPT)
        self._cost = {False: 0.0, True: 0.0}
        self._interval = 1

    @property
    def overhead(self) -> float:
        """Share of the CPU time of the steps that the debugger took; 0 before the first step."""
        rest = self.total - self.own
        return (self.own + self.aside) / rest if rest > 0 else 0.0

    @property
    def interval(self) -> int:
        """The interval that the newest decision came to."""
        return self._interval

    @property
    def step_seconds(self) -> float:
        """Typical CPU seconds of a step without the debugger."""
        return median(self._times) if self._times else 0.0

    def close_step(self, now: float, *, level: int) -> None:
        """A step ended at `now` (`time.thread_time`); its level is 0 not saved, 1 saved, 2 saved in full."""
        if self._mark is not None:
            spent, own = now - self._mark, self.own - self._own_at_mark
            self.total += spent
            self._times.append(max(0.0, spent - own))
            if level:
                cost = own + max(0.0, self.aside - self._aside_at_saved)
                before = self._cost[level > 1]
                self._cost[level > 1] = cost if not before else 0.7 * before + 0.3 * cost
        if level:
            self._aside_at_saved = self.aside
            self.saved += 1
        self.steps += 1
        self._mark, self._own_at_mark = now, self.own

    def pause(self) -> None:
        """The time from here to the end of the next step is no step's: a validation, or a checkpoint."""
        self._mark = None

    def level(self, step: int) -> int:
        """What to save of a coming training step: 0 nothing, 1 the parameters' statistics, 2 everything."""
        schedule = self._spec.of("train")
        if not schedule.open(step):
            return 0
        full = 2 if self.saved % FULL_EVERY == 0 or step < FIRST else 1
        if step in schedule.steps:
            return 2
        if schedule.interval is not None:
            return 2 if schedule.saves(step, schedule.interval) else 0
        if step < schedule.start + FIRST:
            return full
        cost = self._cost[full > 1] or self._cost[True]
        self._interval = self._choose(cost)
        return full if self.affords(cost) and step % self._interval == 0 else 0

    @property
    def cost(self) -> float:
        """CPU seconds that a step saved in full is expected to take; 0 before the first."""
        return self._cost[True]

    def affords(self, seconds: float) -> bool:
        """Whether that much more CPU time is within the budget of the steps so far."""
        return self.own + self.aside + seconds <= self._spec.budget * max(0.0, self.total - self.own)

    def _choose(self, cost: float) -> int:
        """The least interval of the grid at which a saved step of that cost stays within the budget."""
        allowed = self._spec.budget * self.step_seconds
        needed = cost / allowed if allowed > 0 else float("inf")
        return next((each for each in GRID if each >= needed), GRID[-1])

    def timed(self, start: float) -> None:
        """The debugger worked in the training thread since `start` (`time.thread_time`)."""
        self.own += time.thread_time() - start
