"""Keeps the debugger within its budget: measures its own CPU time and the training's, and says which steps to save."""

import time
from collections import deque
from statistics import median

from houndsight.watch.plan import FIRST, DebugSpec

GRID = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)
"""Intervals to choose from: two runs that chose differently still share steps."""

FULL_EVERY = 3  # every so many saved steps are full: activations, quantiles and buffers too
FULL_FIRST = 2  # of the first steps so many are full
KEPT = 31  # steps whose time is remembered
LOOK = 16  # steps after which the time is looked at, at the latest: asking costs a microsecond


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
        self.first = 0
        """The step at which this training began."""
        self._mark: float | None = None
        self._own_at_mark = self._aside_at_saved = 0.0
        self._times: deque[float] = deque(maxlen=KEPT)
        self._cost = {False: 0.0, True: 0.0}
        self._interval = 1
        self._since = 0  # steps since the time was last looked at
        self._due = 0  # so many steps are seen when the next decision is due

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

    def tick(self) -> bool:
        """A step that was not saved ended; whether the next one has to be decided upon. Half a microsecond."""
        self.steps += 1
        self._since += 1
        return self._since >= LOOK or self.steps >= self._due

    def close_step(self, now: float, *, level: int) -> None:
        """A step of that level (0 not saved, 1 saved, 2 saved in full) ended at `now` (`time.thread_time`).

        Steps that only ticked since the last call are counted here, too.
        """
        if level:
            self.steps += 1
            self._since += 1
            self.saved += 1
        if self._mark is not None and self._since:
            spent, own = now - self._mark, self.own - self._own_at_mark
            self.total += spent
            self._times.append(max(0.0, spent - own) / self._since)
            if level:
                cost = own + max(0.0, self.aside - self._aside_at_saved)
                before = self._cost[level > 1]
                self._cost[level > 1] = cost if not before else 0.7 * before + 0.3 * cost
        if level:
            self._aside_at_saved = self.aside
        self._mark, self._own_at_mark, self._since = now, self.own, 0

    def stop_clock(self) -> None:
        """What follows is no step's time: a validation."""
        if self._mark is not None:
            self.close_step(time.thread_time(), level=0)
            self._mark = None

    def start_clock(self) -> None:
        """Steps follow again."""
        self._mark, self._own_at_mark, self._since = time.thread_time(), self.own, 0

    def level(self, step: int) -> int:
        """What to save of a coming training step: 0 nothing, 1 without activations, 2 everything."""
        found, schedule = self._level(step), self._spec.of("train")
        regular = schedule.interval or self._interval
        ahead = [each for each in (regular - step % regular, *(given - step for given in schedule.steps)) if each > 0]
        ahead += [schedule.start - step] * (schedule.start > step)
        self._due = self.steps + min(ahead)
        return found

    def _level(self, step: int) -> int:
        schedule = self._spec.of("train")
        if step in schedule.steps:
            return 2
        if not schedule.open(step):
            return 0
        first = max(schedule.start, self.first)
        beginning = step < first + FIRST
        full = 2 if (step < first + FULL_FIRST if beginning else self.saved % FULL_EVERY == 0) else 1
        if schedule.interval is not None:
            return 2 if schedule.saves(step, schedule.interval) else 0
        if beginning:
            return full
        cost = self._cost[full > 1] or self._cost[True]
        self._interval = self._choose(cost)
        return full if step % self._interval == 0 and self.affords(cost) else 0

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
