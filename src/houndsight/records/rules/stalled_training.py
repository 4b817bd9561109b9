"""A training that makes no step any more; a rule over the clock."""

from collections.abc import Iterator

import numpy as np

from houndsight.records.rules.history import History
from houndsight.records.rules.rule import Rule
from houndsight.spec import Finding

FACTOR, LEAST = 30.0, 60.0


class StalledTraining(Rule):
    """Nothing was recorded for far longer than a step takes.

    Mathematics: the time since the last moment exceeds 30 times the median time between the last 64, and a minute;
    never more than `threshold` seconds. Asked by the clock, not by steps. SageMaker's way: `threshold` seconds.
    Source: SageMaker Debugger's documentation. Severity: warning. Repair: where to look.
    """

    name = "stalled_training"
    needs = "times of steps"
    hears = frozenset({"tensors", "scalars"})
    sagemaker = {"threshold": 1800.0, "stop_training_on_fire": False, "training_job_name_prefix": ""}

    def __init__(self, given: dict[str, str] | None = None) -> None:
        super().__init__(given)
        self._told = 0.0

    def judge(self, history: History) -> Iterator[Finding]:
        """Only see whether there is a clock to go by."""
        self.looked = self.looked or bool(np.isfinite(history.clock()[1]))
        yield from ()

    def finish(self, history: History) -> Iterator[Finding]:
        """The same at the end."""
        yield from self.judge(history)

    def tick(self, now: float, history: History) -> Iterator[Finding]:
        """Judge the silence up to `now`, seconds since the epoch; it is told once, and ends with the next moment."""
        last, usual = history.clock()
        silent, limit = now - last, float(self.value("threshold"))
        if not self.compatible and np.isfinite(usual):
            limit = min(limit, max(LEAST, FACTOR * usual))
        if last <= 0 or silent <= limit or self._told == last:
            return
        self._told = last
        yield self.issue(
            f"No step for {silent:.0f} s after step {history.moment.step}; one takes {usual:.2g} s.",
            "Look at what the data loader waits for: `houndsight logs` shows the last lines; a worker that died, a "
            "network drive, a full disk. With workers, try --workers 0.",
            step=history.moment.step,
            evidence={"silent": silent, "usual": usual, "limit": limit},
        )
